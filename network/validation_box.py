"""The box of all uses that envelopes allow, and the operating points in it.

Every connection with an envelope injects p between

    low = −import_limit      and      high = export_limit, or −firm_charge where it must draw that at least       (1)

and everybody else what is forecast.  Reactive power is as forecast, plus ``kvar_per_kw`` of what is injected (a fixed
power factor), plus anything within ± ``free_kvar``.  A point of the box is a number u in [0, 1] for each, p = low + u (high − low),
and where reactive power is free another one, w, for (2w − 1) free_kvar, whatever u is: so that corners and draws have 2c'
coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model

__all__ = ["Box", "ValidationError", "box_of"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]


class ValidationError(ValueError):
    """What is to be validated is not complete; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """What c' of c connections may do in T intervals."""

    active: Index
    """Connections with an envelope.  Shape (c',)."""

    low_kw: Vector
    """Least injection.  Shape (c', T). [kW]"""

    high_kw: Vector
    """Largest injection.  Shape (c', T). [kW]"""

    fixed: Complex
    """Injection of the others, and the reactive power of all.  Shape (c, T). [kW + j kvar]"""

    kvar_per_kw: Vector
    """Reactive injection for each kW of active injection of those with an envelope.  Shape (c',). [kvar/kW]"""

    free_kvar: Vector
    """Free reactive power, either way.  Shape (c',). [kvar]"""

    source_v_pu: Vector
    """Voltage of the source.  Shape (T,). [p.u.]"""

    @property
    def coordinates(self) -> int:
        """How many numbers say what one customer does: 2 where reactive power is free, else 1."""
        return 2 if self.free_kvar.any() else 1

    def of_intervals(self, kept: Index) -> Box:
        """Return the box of some intervals."""
        return replace(
            self, low_kw=self.low_kw[:, kept], high_kw=self.high_kw[:, kept], fixed=self.fixed[:, kept],
            source_v_pu=self.source_v_pu[kept],
        )  # fmt: skip

    @property
    def intervals(self) -> int:
        """How many there are, T."""
        return len(self.source_v_pu)

    def injection(self, u: Vector, interval: Index) -> Complex:
        """Return the injections of all at points of the box: (c' or 2c', S), (S,) to (c, S). [kW + j kvar]

        The last c' rows of 2c' are the free reactive power's own.
        """
        n, low = len(self.active), self.low_kw[:, interval]
        u, w = (u, u) if len(u) == n else (u[:n], u[n:])
        p = low + u * (self.high_kw[:, interval] - low)
        found: Complex = self.fixed[:, interval]
        found[self.active] += p * (1.0 + 1j * self.kvar_per_kw[:, None]) + 1j * self.free_kvar[:, None] * (
            2.0 * w - 1.0
        )
        return found

    def use_of_kvar(self, injection: Complex, interval: int) -> Vector:
        """Return w, 0 or 1, of the corner with these injections: (c,) to (c',)."""
        mine = injection[self.active]
        free = mine.imag - self.fixed.imag[self.active, interval] - self.kvar_per_kw * mine.real
        return np.asarray(free * self.free_kvar > 0, dtype=np.float64)

    def of_meters(self, injection_kw: Vector) -> Complex:
        """Return the injections of all where those with an envelope inject this: (c, T) to (c, T). [kW + j kvar]"""
        found = self.fixed.copy()
        found[self.active] += injection_kw[self.active] * (1.0 + 1j * self.kvar_per_kw[:, None])
        return found

    @property
    def reach_kva(self) -> Vector:
        """The most that each connection can exchange in any interval.  Shape (c,). [kVA]"""
        found = np.abs(self.fixed).max(axis=1, initial=0.0)
        most = np.maximum(np.abs(self.low_kw), np.abs(self.high_kw)).max(axis=1, initial=0.0)
        found[self.active] += most * np.sqrt(1.0 + self.kvar_per_kw**2) + np.abs(self.free_kvar)
        return np.asarray(found)


def box_of(
    model: Model,
    import_limit_kw: ArrayLike,
    export_limit_kw: ArrayLike,
    firm_charge_kw: ArrayLike | None,
    base_injection_kw: ArrayLike,
    base_injection_kvar: ArrayLike,
    source_v_pu: ArrayLike | None,
    kvar_per_kw: ArrayLike | None = None,
    free_kvar: ArrayLike | None = None,
) -> Box:
    """Return the box of some limits, or say everything that is wrong with them; arguments as of ``validate``."""
    imports, exports = np.asarray(import_limit_kw, dtype=np.float64), np.asarray(export_limit_kw, dtype=np.float64)
    base_kw, base_kvar = (
        np.asarray(base_injection_kw, dtype=np.float64),
        np.asarray(base_injection_kvar, dtype=np.float64),
    )
    shape = (model.n_connection, imports.shape[1] if imports.ndim == 2 else -1)
    firm = np.zeros(imports.shape) if firm_charge_kw is None else np.asarray(firm_charge_kw, dtype=np.float64)
    tables = {
        "import_limit_kw": imports, "export_limit_kw": exports, "firm_charge_kw": firm,
        "base_injection_kw": base_kw, "base_injection_kvar": base_kvar,
    }  # fmt: skip
    wrong = [
        f"{name} has shape {table.shape}; expected one row for each of the {shape[0]} connections and one column for each "
        f"interval, at least one, alike in all tables."
        for name, table in tables.items()
        if table.shape != shape or not table.shape[1]
    ]
    given = []
    for name, told in (("kvar_per_kw", kvar_per_kw), ("free_kvar", free_kvar)):
        each = np.zeros(shape[0]) if told is None else np.asarray(told, dtype=np.float64)
        if each.shape != shape[:1] or not np.isfinite(each).all():
            wrong.append(f"{name} has shape {each.shape}; expected {shape[0]} finite numbers.")
        given.append(each)
    if wrong:
        raise ValidationError(_sentences(wrong))
    for name, table in list(tables.items())[:3]:
        odd = np.argwhere(~(table >= 0) | (np.isinf(table) & (name == "firm_charge_kw")))
        if odd.size:
            i, t = odd[0]
            wrong.append(
                f"{name} is {table[i, t]:g} for connection {i} in interval {t} ({len(odd)} such number(s)); expected zero or more."
            )
    limited = np.isfinite(imports) & np.isfinite(exports)
    free = np.isinf(imports) & np.isinf(exports)
    active = np.asarray(limited.all(axis=1), dtype=np.bool_)
    half = np.flatnonzero(~active & ~free.all(axis=1) & ~np.isnan(imports + exports).any(axis=1))
    if half.size:
        wrong.append(
            f"connection {half[0]} has limits in some intervals or one direction only ({half.size} such connection(s)). Give both "
            f"limits in every interval, or inf everywhere for a connection without an envelope."
        )
    for i, t in np.argwhere(np.asarray(firm > imports) & limited)[:1]:
        wrong.append(
            f"connection {i} must draw {firm[i, t]:g} kW in interval {t}, but may draw only {imports[i, t]:g} kW."
        )
    bases = np.isfinite(base_kw[~active]).all() and np.isfinite(base_kvar).all()
    if not bases:
        wrong.append("the base injections have a NaN or an infinity. Fill the gap.")
    if wrong:
        raise ValidationError(_sentences(wrong))
    acting = np.flatnonzero(active)
    fixed = np.where(active[:, None], 0.0, base_kw) + 1j * base_kvar
    high = np.asarray(np.where(np.asarray(firm > 0), -firm, exports))[acting]
    source = model.source_voltage(source_v_pu, shape[1])
    return Box(acting, -imports[acting], high, fixed, given[0][acting], given[1][acting], source)


def _sentences(mistakes: list[str]) -> str:
    return "the envelope cannot be validated: " + " ".join(mistakes)
