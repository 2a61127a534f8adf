"""Orders in, trades, prices and bills out (ground floor).

Sign
    A meter imports positive and exports negative.  An exchange position is
    positive for a sale; a grid position is positive for a purchase.
Units
    kW and kWh; prices in currency per kWh.  Settlement counts in integers:
    micro-euro and milli-watt-hour (1 kWh = 1 000 000 mWh), double entry, every
    transaction sums to zero.
Arrays
    Agents first, then time: ``(n, T)``.
May import
    Libraries only.  This floor knows no grid and no home; it and
    :mod:`network` are strangers: what a wire allows arrives as an array of
    limits.
"""
