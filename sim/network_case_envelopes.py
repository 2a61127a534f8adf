"""The section ``envelopes:`` of a network case: how ``commonwatt network envelopes`` computes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from sim.scenario_base import FeederKw, Id, Number, Spec
from sim.scenario_file import Loc

__all__ = ["DoubtSpec", "EnvelopesSpec", "OwnSpec", "ReactiveSpec"]

Percent = Annotated[float, Field(strict=True, ge=0, le=90)]


class ReactiveSpec(Spec):
    """What customers with an envelope do with their reactive power."""

    kind: Literal["forecast", "power_factor", "free", "volt_var"] = "forecast"
    """forecast: as the base load's; power_factor: fixed, whatever they do; free: anything within free_kvar of the forecast; volt_var: by the curve."""
    power_factor: Annotated[float, Field(strict=True, ge=-1, le=1)] = 0.95
    """Who draws power draws reactive power; negative: feeds it in, and draws it where power is fed in."""
    free_kvar: FeederKw = 0.0
    """Of "free", each customer. [kvar]"""
    v_pu: tuple[Annotated[float, Field(strict=True, gt=0, le=2)], ...] = (0.92, 0.98, 1.02, 1.08)
    """Knots of the volt-var curve."""
    q_kvar: tuple[Number, ...] = (2.0, 0.0, 0.0, -2.0)
    """What each customer injects at the knots. [kvar]"""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check the curve, and that factors and bands are those of the kind."""
        if len(self.v_pu) != len(self.q_kvar) or not self.v_pu:
            yield ("q_kvar",), f"has {len(self.q_kvar)} numbers for {len(self.v_pu)} voltages in v_pu; give as many"
        if any(later <= earlier for earlier, later in zip(self.v_pu, self.v_pu[1:], strict=False)):
            yield ("v_pu",), "must rise"
        if self.power_factor == 0.0:
            yield ("power_factor",), "must not be 0"
        if self.free_kvar and self.kind != "free":
            yield ("free_kvar",), f'is given, but the kind is {self.kind}; remove it, or write "kind: free"'


class DoubtSpec(Spec):
    """How far data may be from the truth, so that envelopes hold all the same."""

    load_percent: Annotated[float, Field(strict=True, ge=0, le=1000)] = 0.0
    """Loads of those without an envelope, of their forecast."""
    load_kw: FeederKw = 0.0
    """Likewise in kW, on top."""
    shape: Literal["box", "ellipsoid", "gaussian"] | None = None
    """box: each by so much; ellipsoid: together; gaussian: so much is a standard deviation; null: gaussian in the mode chance, else box."""
    radius: Annotated[float, Field(strict=True, gt=0, le=100)] = 1.0
    """Of the ellipsoid."""
    probability: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.05
    """With which an interval may break a limit, of "gaussian"."""
    correlation: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    """Between any two loads."""
    impedance_percent: Percent = 0.0
    """Of all lines and transformers together."""
    source_v_pu: Annotated[float, Field(strict=True, ge=0, le=0.2)] = 0.0
    """Voltage of the source."""


class OwnSpec(Spec):
    """What a single customer has of its own: a static right, a weight, an obligation to charge."""

    id: Id
    """Of a customer."""
    export_floor_kw: FeederKw | None = None
    """Granted in any case; null: as all."""
    import_floor_kw: FeederKw | None = None
    """Likewise."""
    weight: Annotated[float, Field(strict=True, gt=0, le=1e6)] = 1.0
    """How much it counts where limits are shared."""
    firm_charge_kw: FeederKw = 0.0
    """What it must draw at least, whatever the others do (a shared storage): this makes room for their exports."""


class EnvelopesSpec(Spec):
    """How envelopes are computed."""

    mode: Literal["deterministic", "robust", "robust_pinned", "budget", "chance"] = "deterministic"
    """What must be safe. deterministic: all export, all import; robust: any use inside the envelopes; robust_pinned: likewise with imports given; budget: but a few do as all do; chance: robust, under uncertain loads."""
    rule: Literal[
        "proportional",
        "equal",
        "max_min",
        "last_in_first_out",
        "max_total",
        "proportional_fairness",
        "alpha_fair",
    ] = "proportional"
    """How limits share what the network carries."""
    method: Literal["corrected", "linear", "cone"] = "corrected"
    """How limits are measured. corrected: by AC power flow, they hold; to compare with: linear: by linear DistFlow alone, imports do not hold; cone: by the second-order cone programme, of mode deterministic and rule max_total, which is refused where it is no power flow: exports."""
    pinned_import_kw: FeederKw = 1.5
    """Import limit of everybody, of robust_pinned."""
    budget: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 5
    """How many may do otherwise than all the others, of the mode budget."""
    alpha: Annotated[float, Field(strict=True, gt=0, le=100)] = 2.0
    """Of alpha_fair: near 0 as max_total, 1 proportional_fairness, large near max_min."""
    export_floor_kw: FeederKw = 0.0
    """Granted to everybody in any case, no more than the cap."""
    import_floor_kw: FeederKw = 0.0
    """Likewise."""
    reactive: ReactiveSpec = ReactiveSpec()
    """What customers with an envelope do with their reactive power."""
    uncertainty: DoubtSpec = DoubtSpec()
    """How far data may be from the truth."""
    each: tuple[OwnSpec, ...] = ()
    """Customers with something of their own."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a name twice, and what does not go together."""
        first: dict[str, int] = {}
        for k, one in enumerate(self.each):
            if one.id in first:
                yield ("each", k, "id"), f'"{one.id}" is the id of envelopes.each.{first[one.id]} already'
            first.setdefault(one.id, k)
        shape = self.uncertainty.shape
        if self.mode == "chance" and shape not in (None, "gaussian"):
            yield (
                ("uncertainty", "shape"),
                f"is {shape}; the mode chance is about gaussian loads, robust about the others",
            )
        yield from self._pinned()
        yield from self._method()

    def _pinned(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a right to import above the import that everybody is pinned at."""
        if self.mode != "robust_pinned":
            return
        floors: list[tuple[Loc, float | None, float]] = [(("import_floor_kw",), self.import_floor_kw, 0.0)]
        floors += [
            (("each", k, "import_floor_kw"), one.import_floor_kw, one.firm_charge_kw) for k, one in enumerate(self.each)
        ]
        for loc, floor, firm in floors:
            if floor is not None and floor > max(self.pinned_import_kw, firm):
                pinned = f"the mode robust_pinned pins imports at {self.pinned_import_kw:g} kW"
                yield loc, f"is {floor:g} kW, and {pinned}; pin more, or grant less"

    def _method(self) -> Iterator[tuple[Loc, str]]:
        """Refuse what the methods to compare with cannot do."""
        if self.method == "linear" and self.reactive.kind == "volt_var":
            yield (
                ("reactive", "kind"),
                'is volt_var, which linear DistFlow has no rows for; take another, or "method: corrected"',
            )
        if self.method != "cone":
            return
        doubt = self.uncertainty
        told: list[tuple[Loc, object, object]] = [
            (("mode",), self.mode, "deterministic"),
            (("rule",), self.rule, "max_total"),
            (("reactive", "kind"), self.reactive.kind, "forecast"),
            *(((key,), getattr(self, key), 0) for key in ("export_floor_kw", "import_floor_kw")),
            *((("uncertainty", key), getattr(doubt, key), 0)
              for key in ("load_percent", "load_kw", "impedance_percent", "source_v_pu")),
            *((("each", k, key), getattr(one, key) or 0, 0) for k, one in enumerate(self.each)
              for key in ("export_floor_kw", "import_floor_kw", "firm_charge_kw")),
            *((("each", k, "weight"), one.weight, 1) for k, one in enumerate(self.each)),
        ]  # fmt: skip
        for loc, given, needed in told:
            if given != needed:
                shown = f"{given:g}" if isinstance(given, float) else given
                yield loc, f'is {shown}; the method cone knows {needed} alone; write that, or "method: corrected"'
