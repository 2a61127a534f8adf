"""Who decides: people, storage and network operators, retailers (third floor).

Plain objects without a clock: a decision is a function of what is known, and
can be tested without a simulation.

Sign
    A meter imports positive and exports negative; ``pv_kw >= 0``.
Units
    kW, kWh; prices in currency per kWh.
Arrays
    Agents first, then time: ``(n, T)``.
May import
    :mod:`storage`, :mod:`network`, :mod:`market` and libraries; not the
    simulation.
"""
