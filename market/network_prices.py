"""Clearing with the grid at the table: locational prices, split into energy, losses and congestion.

The problem is that of :mod:`market.problem` with the rows and losses of a :class:`market.network_rows.Network` ::

    min  cost of everybody + Σ Δ c L(x)   subject to everybody's limits, Σ exchange = 0, offers, and A x <= b      (1)

with x what all meters and shared stores draw.  The operator of the grid is one more agent of the same ADMM
(:mod:`market.network_splitting`); its prices are the multipliers ``μ >= 0`` of its rows [1]_ ::

    price of a kWh drawn at place i = λ + c ∂L/∂x_i + (A'μ)_i = energy + losses + congestion                       (2)

Trades are made at λ, everywhere the same; the other two parts are paid on the physical meter, to the operator or, where a kWh helps, by
it.  At the optimum congestion earns ``Σ_i (A'μ)_i x_i = μ'b``.

The plan is exact and keeps the rows (:mod:`market.network_repair`).  The bound is the one of :mod:`market.bound` with (2) on the
meters, and what the operator can do with it: for any point x° and any μ >= 0 ::

    min over x of  c L(x) − τ'x + μ'(A x − b)  =  −μ'b − c |F x°|² + c const,   τ = c ∂L/∂x (x°) + A'μ             (3)

so it needs neither to be optimal.

Limits: meters have no limits of their own beside (1); netted stores are refused; losses are in kWh at a given price, not in the
balance of the exchange.

References
----------
.. [1] F. C. Schweppe, M. C. Caramanis, R. D. Tabors, R. E. Bohn, "Spot Pricing of Electricity", Kluwer, 1988.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from market.bound import Bound, Duals, bound
from market.exchange import Clearing, clearing
from market.feasible import check_feasible
from market.network_repair import repair_inside
from market.network_rows import Network, draws_of, reach_of
from market.network_splitting import NetworkSplitting
from market.problem import Problem, ProblemError
from market.repair import Draft, Plan
from market.splitting import Outcome, Warm

__all__ = ["NetworkClearing", "clear", "moved_to", "network_clearing"]

Floats = NDArray[np.float64]

_SINGLE_REACHES = 5e-6  # smaller residuals drown in the rounding of single precision
_LOOK = 2000  # iterations after which the certificate is looked at whatever the residuals are, then twice as many
_ENOUGH = 3.0  # times the tolerance of the turnover: a gap that is enough
_BROKEN = 2e-7  # of what a row would be at one kW: more is broken


@dataclass(frozen=True, slots=True, eq=False)
class NetworkClearing(Clearing):
    """A clearing with locational prices.

    Of the fields of a clearing, ``cost_eur``, ``bound_eur`` and ``gap`` include what losses cost, ``payment_eur`` what is paid to
    the grid's operator, ``price_eur_per_kwh`` is λ.  ``status`` is ``infeasible`` where ``broken`` names a row that nobody could
    keep; ``converged`` says of the iteration alone how it ended.
    """

    losses_eur_per_kwh: Floats
    """Second part of (2), of meters and then of shared stores.  Shape (n + M, T)."""
    congestion_eur_per_kwh: Floats
    """Third part of (2).  Shape (n + M, T)."""
    row_price_eur_per_h: Floats
    """μ: what one unit more of a limit would save in an hour.  Shape (k, T)."""
    binding_element: NDArray[np.str_]
    """Element whose row takes most of the congestion rent, "" where there is none.  Shape (T,)."""
    draw_kw: Floats
    """x: what meters and then shared stores draw.  Shape (n + M, T)."""
    loss_kw: Floats
    """L(x).  Shape (T,)."""
    loss_cost_eur: float
    """What the operator pays for them."""
    rent_eur: float
    """What the operator takes for losses and congestion together, before it pays the losses."""
    row_excess: Floats
    """A x − b.  Shape (k, T). [unit of the row]"""
    broken: tuple[str, ...]
    """Rows that nobody could keep, in words."""

    @property
    def network_eur_per_kwh(self) -> Floats:
        """Return what the grid asks for a kWh drawn: losses and congestion.  Shape (n + M, T)."""
        return np.asarray(self.losses_eur_per_kwh + self.congestion_eur_per_kwh)

    @property
    def locational_eur_per_kwh(self) -> Floats:
        """Return (2) for the agents: energy, losses and congestion; NaN where energy has no price.  Shape (n, T)."""
        return np.asarray(self.price_eur_per_kwh + self.network_eur_per_kwh[: len(self.meter_kw)])


def clear(
    problem: Problem,
    network: Network,
    *,
    warm: Warm | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 4000,
    certified: bool = True,
) -> NetworkClearing:
    """Clear the exchange with the grid's operator at the table.

    Parameters
    ----------
    problem
        Who wants what; meters without limits.
    network
        What the grid can carry.
    warm, tolerance, max_iterations
        As in :func:`market.exchange.clear`; a warm start may come from a clearing without a network, too.
    certified
        Whether the iteration goes on, residuals being small, until the certified gap is below three times the tolerance, of the
        turnover: prices of rows that cost more than energy does come late.

    Raises
    ------
    ProblemError
        Where problem and network do not fit together.
    Infeasible
        Where a store's need or a shared store's firm charge cannot be met by anyone.  Rows that cannot be kept do not raise: the
        rest is cleared, ``status`` is ``infeasible``, and ``broken`` names them.

    Examples
    --------
    Two homes behind a line that carries a kilowatt: one has three kilowatts of sun, which are worth 0.08 at the retailer's, where
    they are fed in; more than one is curtailed, so a kWh is worth nothing where it is made.

    >>> case = Problem.plain([[0.0], [0.0]], [[3.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> line = Network.plain([[-1.0, -1.0]], [[1.0]], ("the line",), ("overload",))
    >>> found = clear(case, line, tolerance=1e-6)
    >>> found.meter_kw.round(4).tolist(), found.congestion_eur_per_kwh.round(4).tolist(), round(found.rent_eur, 4)
    ([[-1.0], [0.0]], [[-0.08], [-0.08]], 0.08)
    """
    _check(problem, network, tolerance)
    check_feasible(problem)
    within, hopeless = _attainable(problem, network)
    splitting = NetworkSplitting(problem, within, warm, double=tolerance < _SINGLE_REACHES)
    asked, look = tolerance, _LOOK
    while True:
        outcome = splitting.run(asked, min(look, max_iterations))
        plan, _ = repair_inside(problem, within, outcome.draft, splitting.draws, outcome.duals.price_eur_per_kwh)
        sigma = splitting.store_value[1] - splitting.store_value[0]
        outcome = replace(outcome, duals=replace(outcome.duals, net_eur_per_kwh=sigma))
        found = network_clearing(problem, network, plan, outcome, splitting.row_value, hopeless)
        size = tolerance * max(1.0, found.turnover_eur)
        if not outcome.converged and max(found.gap_eur, found.max_agent_kkt) <= size:
            outcome = replace(outcome, converged=True)  # ties are decided slowly, and change nothing
            found = network_clearing(problem, network, plan, outcome, splitting.row_value, hopeless)
        enough = not certified or found.gap_eur <= _ENOUGH * size
        if outcome.iterations >= max_iterations or (outcome.converged and enough):
            return found
        if outcome.converged:
            asked *= 0.5
        else:
            look *= 2


def _check(p: Problem, network: Network, tolerance: float) -> None:
    wrong = network.fits(p)
    if not 0.0 < tolerance < 1.0:
        wrong.append(f"tolerance is {tolerance}; give a number between 0 and 1, such as 1e-3.")
    most, least = (
        p.load_kw + p.store_charge_max_kw.sum(axis=0),
        p.load_kw - p.pv_kw - p.store_discharge_max_kw.sum(axis=0),
    )
    if ((most > p.import_limit_kw) | (-least > p.export_limit_kw)).any():  # others say nothing
        wrong.append(
            "meters have limits of their own (import_limit_kw, export_limit_kw); make them rows of the network."
        )
    if p.ess_netted.any():
        wrong.append("a shared store is operated netted (ess_netted); with a network rights must add up.")
    if wrong:
        raise ProblemError("the network cannot be cleared with:\n  " + "\n  ".join(wrong))


def _attainable(p: Problem, network: Network) -> tuple[Network, tuple[str, ...]]:
    """Return the network with rows that nobody could keep moved to where they can be, and which these are, in words."""
    low, high = reach_of(p)
    a = network.a_per_kw
    least = np.maximum(a, 0.0) @ low + np.minimum(a, 0.0) @ high
    size = np.abs(a).max(axis=1, initial=0.0)[:, None]
    short = least > network.b
    words = _words(network, least - network.b, _BROKEN * size)
    return (replace(network, b=np.where(short, least, network.b)) if short.any() else network), words


def _words(network: Network, over: Floats, allowed: Floats) -> tuple[str, ...]:
    """Return a sentence for each row that is broken."""
    found = []
    for k in np.flatnonzero((over > allowed).any(axis=1)):
        steps = np.flatnonzero(over[k] > allowed[k])
        worst = int(over[k].argmax())
        found.append(
            f"{network.kind[k]} at {network.element[k]!r} in {len(steps)} interval(s), worst in interval {worst}: "
            f"{over[k, worst]:.3g} beyond its limit whatever anybody does."
        )
    return tuple(found)


def network_clearing(
    p: Problem, network: Network, plan: Plan, outcome: Outcome, row_price: Floats, hopeless: tuple[str, ...] = ()
) -> NetworkClearing:
    """Put plan, prices and certificate together.

    ``outcome.duals.net_eur_per_kwh`` is the price of the shared stores' own bounds alone; ``row_price`` is μ, shape (k, T).
    """
    x = draws_of(plan.meter_kw, plan.rented_charge_kw, plan.rented_discharge_kw)
    losses = network.loss_eur_per_kwh * network.marginal_loss(x)
    congestion = network.a_per_kw.T @ row_price
    asked = losses + congestion
    certificate = bound(p, plan, outcome.duals, asked)
    price_of_losses = network.loss_eur_per_kwh
    loss_kw = network.loss_kw(x)
    loss_eur = p.dt_h * float(price_of_losses @ loss_kw)
    curved = ((network.loss_factor @ x) ** 2).sum(axis=0)
    answer = -(row_price * network.b).sum(axis=0) - price_of_losses * (curved - network.loss_constant_kw)
    certificate = _with_operator(certificate, loss_eur, p.dt_h * float(answer.sum()))
    stores = p.dt_h * (asked[p.n :] * x[p.n :]).sum(axis=1)
    over = network.excess(x)
    size = np.abs(network.a_per_kw).max(axis=1, initial=0.0)[:, None]
    broken = hopeless or _words(network, over, _BROKEN * size)
    plain = clearing(p, plan, outcome, certificate)
    status = "infeasible" if broken else plain.status
    told = {column.name: getattr(plain, column.name) for column in fields(Clearing)}
    told |= {"status": status, "owner_income_eur": certificate.owner_income_eur - stores}
    names = np.array([*network.element, ""], dtype=np.str_)
    rent = row_price * network.b
    strongest = np.where((row_price > 0.0).any(axis=0), np.abs(rent).argmax(axis=0) if len(rent) else -1, -1)
    return NetworkClearing(
        **told,
        losses_eur_per_kwh=losses,
        congestion_eur_per_kwh=congestion,
        row_price_eur_per_h=row_price,
        binding_element=names[strongest],
        draw_kw=x,
        loss_kw=loss_kw,
        loss_cost_eur=loss_eur,
        rent_eur=p.dt_h * float((asked * x).sum()),
        row_excess=over,
        broken=broken,
    )


def _with_operator(certificate: Bound, loss_eur: float, least_eur: float) -> Bound:
    """Return the certificate with the operator's cost, and with the least that it could have been."""
    cost, least = certificate.cost_eur + loss_eur, certificate.bound_eur + least_eur
    return replace(certificate, cost_eur=cost, bound_eur=least, gap=(cost - least) / max(1.0, abs(cost)))


def moved_to(problem: Problem, network: Network, found: NetworkClearing) -> NetworkClearing:
    """Return a clearing whose plan keeps the rows of a network that has moved a little, at the same prices."""
    p = problem
    draft = Draft(found.curtailed_kw, found.charge_kw, found.discharge_kw, found.rented_charge_kw, found.rented_discharge_kw,
                  found.right_energy_kwh, found.right_power_kw)  # fmt: skip
    within, hopeless = _attainable(p, network)
    price = np.nan_to_num(found.price_eur_per_kwh)
    plan, _ = repair_inside(p, within, draft, found.draw_kw, price)
    value = np.broadcast_to(price, (p.n, p.steps)).copy()
    duals = Duals(found.price_eur_per_kwh, value, value, found.ess_net_price_eur_per_kwh,
                  found.rent_energy_scarcity_eur_per_kwh, found.rent_power_scarcity_eur_per_kw)  # fmt: skip
    outcome = Outcome(found.converged, found.iterations, found.residuals, draft, duals, found.warm)
    return network_clearing(p, network, plan, outcome, found.row_price_eur_per_h, hopeless)
