"""When it happens, and what is kept: scenario, run, results, report (top floor).

Sign
    A meter imports positive and exports negative; limits of an envelope are
    both >= 0.
Units
    kW and kWh; prices in currency per kWh; times in UTC, each the START of its
    interval.  Local time lives in tariffs, settlement and pictures only.
Arrays
    Agents first, then time: ``(n, T)``.
May import
    Every other package.  Only the command line stands above it.
"""
