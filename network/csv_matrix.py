"""Lines told conductor by conductor, as columns of ``branches.csv``: the upper triangles of their matrices.

``r_aa_ohm``, ``r_ab_ohm``, … ``x_cc_ohm`` and ``c_aa_nf``, … hold the symmetric matrices ``z_abc_ohm`` and ``c_abc_nf`` of
:class:`~network.elements.Branches`, of the whole line, an entry for each pair of its conductors (the column ``phases``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from network.csv_table import Column, Row, Value
from network.elements import Branches

__all__ = ["MATRIX_COLUMNS", "matrices", "matrix_cells", "matrix_mistakes"]

PAIRS = ("aa", "ab", "ac", "bb", "bc", "cc")
"""The upper triangle of a matrix between conductors."""
PARTS = (("r", "ohm"), ("x", "ohm"), ("c", "nf"))

_WHAT = {"r": ("Resistance", "ohm", 1e3), "x": ("Reactance", "ohm", 1e3), "c": ("Capacitance", "nF", 1e6)}


def _name(part: str, pair: str) -> str:
    return f"{part}_{pair}_{dict(PARTS)[part]}"


MATRIX_COLUMNS = tuple(
    Column(
        _name(part, pair),
        "number",
        f"{_WHAT[part][0]} {pair[0]}-{pair[1]} of a line told conductor by conductor",
        _WHAT[part][1],
        low=-_WHAT[part][2] if pair[0] != pair[1] else 0.0,
        high=_WHAT[part][2],
    )
    for part, _ in PARTS
    for pair in PAIRS
)


def matrices(rows: Sequence[Row]) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Return the impedances and capacitances between conductors, NaN where nothing is told.  Shape (m, 3, 3). [ohm], [nF]"""
    found = {part: np.full((len(rows), 3, 3), math.nan) for part, _ in PARTS}
    for part, values in found.items():
        for pair in PAIRS:
            i, j = ("abc".index(one) for one in pair)
            values[:, i, j] = values[:, j, i] = [row.number(_name(part, pair)) for row in rows]
    z: NDArray[np.complex128] = np.empty(found["r"].shape, dtype=np.complex128)
    z.real, z.imag = found["r"], found["x"]
    return z, found["c"]


def matrix_cells(branches: Branches) -> dict[str, Sequence[Value]]:
    """Return the columns that :func:`matrices` reads."""
    told = branches.untransposed
    columns: dict[str, Sequence[Value]] = {}
    for part, values in (("r", branches.z_abc_ohm.real), ("x", branches.z_abc_ohm.imag), ("c", branches.c_abc_nf)):
        for pair in PAIRS:
            i, j = ("abc".index(one) for one in pair)
            there = told & branches.conductors[:, i] & branches.conductors[:, j]
            columns[_name(part, pair)] = np.where(there, values[:, i, j], math.nan).tolist()
    return columns


def matrix_mistakes(rows: Iterable[Row]) -> list[str]:
    """Return lines of which some entries between their conductors are told, and others not."""
    mistakes = []
    for row in rows:
        place = f"branches.csv:{row.line}"
        given = [column.name for column in MATRIX_COLUMNS if row.cells[column.name] is not None]
        if given and row.text("kind") != "line":
            mistakes.append(f"{place}:{given[0]}: a transformer has no such figure. Leave the cell empty.")
        elif given:
            conductors = row.text("phases")
            pairs = [pair for pair in PAIRS if set(pair) <= set(conductors)]
            capacitive = any(name.startswith("c") for name in given)
            needed = [_name(part, pair) for part, _ in PARTS if part != "c" or capacitive for pair in pairs]
            mistakes += [
                f"{place}:{name}: nothing is given; a line told conductor by conductor needs {', '.join(needed)}."
                for name in needed
                if name not in given
            ]
            mistakes += [
                f"{place}:{name}: the line has the conductors {conductors} only. Leave the cell empty."
                for name in given
                if name not in needed
            ]
    return mistakes
