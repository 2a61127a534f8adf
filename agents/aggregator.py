"""The aggregator: a pass-through that collects its members' bills and writes each one invoice.

Members clear for themselves; what they owe and earn stands in the books under their own names.  The aggregator takes
over their bills line by line, adds nothing but its fee (a posting of kind ``aggregator_fee`` in the same books), collects
what the invoices say and pays the parties.  So for every member ::

    invoice = Σ lines of its bill, the fee among them = passed through + fee                                (1)

and what the aggregator keeps is the sum of its fees: there is no portfolio and no position of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.bills import Bills

__all__ = ["FEE", "AggregatorError", "Invoice", "InvoiceLine", "invoices", "kept_micro_eur"]

FEE = "aggregator_fee"
"""The line of a bill that the aggregator keeps."""


class AggregatorError(ValueError):
    """Members and bills do not fit together."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line: what for, how much, at what mean price, and what is to pay."""

    line: str
    rule: str
    quantity: float
    """In ``unit``; what the member received is +."""
    unit: str
    price_eur: float
    """Per unit; NaN where there is no one price."""
    amount_micro_eur: int
    """To pay +, credit −."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """What one member pays for one period."""

    aggregator_id: str
    agent_id: str
    period: str
    lines: tuple[InvoiceLine, ...]
    """In the order of the bill."""

    @property
    def total_micro_eur(self) -> int:
        """To pay +, credit −."""
        return sum(line.amount_micro_eur for line in self.lines)

    @property
    def fee_micro_eur(self) -> int:
        """What the aggregator keeps of it."""
        return sum(line.amount_micro_eur for line in self.lines if line.line == FEE)

    @property
    def passed_through_micro_eur(self) -> int:
        """What it hands on to retailer, network operator, state, neighbours and storage."""
        return self.total_micro_eur - self.fee_micro_eur

    @property
    def total_eur(self) -> float:
        """To pay +, credit −. [eur]"""
        return self.total_micro_eur / 1e6


def invoices(bills: Bills, aggregator_of: Mapping[str, str]) -> tuple[Invoice, ...]:
    """Write one invoice per member and period, ordered by aggregator, member and period.

    Parameters
    ----------
    bills
        Of one or several periods; lines of others than members are left out.
    aggregator_of
        Aggregator by member; ``""`` or no entry: none.

    Raises
    ------
    AggregatorError
        If somebody without an aggregator is billed an aggregator's fee.
    """
    strangers = sorted(
        {
            agent
            for agent, line, amount in zip(bills.agent_id, bills.line, bills.amount_micro_eur, strict=True)
            if line == FEE and amount > 0 and not aggregator_of.get(agent)
        }
    )
    if strangers:
        raise AggregatorError(
            f"{', '.join(strangers[:3])} pay(s) an aggregator's fee and has none. Name the aggregator of every member that is billed one."
        )
    rows: dict[tuple[str, str, str], list[int]] = {}
    for row, (agent, period) in enumerate(zip(bills.agent_id, bills.period, strict=True)):
        if aggregator_of.get(agent):
            rows.setdefault((aggregator_of[agent], agent, period), []).append(row)
    units, quantities, prices = bills.unit, bills.quantity, bills.price_eur
    return tuple(
        Invoice(
            aggregator_id=aggregator,
            agent_id=agent,
            period=period,
            lines=tuple(
                InvoiceLine(
                    line=bills.line[row],
                    rule=bills.rule[row],
                    quantity=float(quantities[row]),
                    unit=units[row],
                    price_eur=float(prices[row]),
                    amount_micro_eur=int(bills.amount_micro_eur[row]),
                )
                for row in of_member
            ),
        )
        for (aggregator, agent, period), of_member in sorted(rows.items())
    )


def kept_micro_eur(bills: Bills, aggregator_id: str) -> int:
    """Return what an aggregator earned: the fees booked to its account."""
    own: NDArray[np.bool_] = (bills.agent_id == aggregator_id) & (bills.line == FEE)
    return -int(bills.amount_micro_eur[own].sum())
