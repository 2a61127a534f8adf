"""How a command talks: progress, summaries, and what an ending means.

The commands themselves are mounted in :mod:`cli`; each is a thin shell over one
public function of the same name.  Nothing here computes, and nothing here
imports a heavy library when it is loaded.
"""
