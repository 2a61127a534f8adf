"""The wires (ground floor): feeders, power flow, limits, operating envelopes.

Sign
    Inside this package, injection INTO the network is positive; a meter
    (import positive) is turned round at the door, ``injection = -meter``.
Units
    kW and kvar at the doors; MW, W and per unit stay inside the file that
    needs them.
Arrays
    Connections or buses first, then operating points or time: ``(n, S)``.
May import
    Libraries only.  This floor knows no market, no storage and no person; it
    and :mod:`market` are strangers: an envelope reaches a market as an array
    of limits.
"""
