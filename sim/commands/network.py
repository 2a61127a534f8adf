"""``commonwatt network``: a feeder alone, without market and simulation.

Every command is a function in a file of its own, ``sim/commands/network_<name>.py``, registered below; what they have in common
stands in :mod:`sim.commands.network_options`.
"""

from __future__ import annotations

import typer

from sim.commands import network_envelopes, network_flow, network_hosting, network_messages, network_validate

__all__ = ["app"]

app = typer.Typer(help="A feeder alone: power flow and limits, without market and simulation.", no_args_is_help=True)


@app.callback()
def _network() -> None:
    """A feeder alone: power flow and limits, without market and simulation."""


app.command()(network_flow.flow)
app.command()(network_envelopes.envelopes)
app.command()(network_validate.validate)
app.command()(network_hosting.hosting)
app.command()(network_messages.messages)
