"""A scenario verified with all that it names: grid, people, series, files; nothing is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["check"]


def check(path: str | Path, sets: Sequence[str] = ()) -> list[str]:
    """Read a scenario and everything it refers to.

    Parameters
    ----------
    path
        The YAML file.
    sets
        Assignments such as ``"storage.0.energy_kwh=300"``.

    Returns
    -------
    list of str
        What is worth knowing about it.

    Raises
    ------
    ValueError
        Of the packages' own kinds, with every mistake.
    """
    from sim.resolve import resolve
    from sim.scenario import load

    return list(resolve(load(path, sets)).notes)
