"""Energy in a box, whose it is, and where it goes (second floor).

Sign
    ``charge_kw >= 0`` goes into the box and ``discharge_kw >= 0`` comes out of
    it; both are measured on the meter's side, losses lie in between.
Units
    kW and kWh; an energy state is the one at the START of its interval.
Arrays
    Boxes or holders first, then time: ``(n, T)``.
May import
    :mod:`network`, :mod:`market` and libraries.
"""
