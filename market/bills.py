"""Bills: the books summed up per account, line and rule, for each delivery day.

A bill adds nothing: every line is a sum of postings (:mod:`market.ledger`).  Quantities keep the sign of what the
account receives (a kWh fed in is negative), amounts are turned round: to pay +, credit −.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.ledger import KINDS, Ledger

__all__ = ["BillError", "Bills", "bills"]

Counts = NDArray[np.int64]
Texts = NDArray[np.object_]
Vector = NDArray[np.float64]


class BillError(ValueError):
    """The periods do not fit the postings."""


@dataclass(frozen=True, slots=True, eq=False)
class Bills:
    """Lines of bills, ordered by period, account, kind and rule; every array has shape (b,)."""

    agent_id: Texts
    """The account."""
    period: Texts
    line: Texts
    """The kind of its postings."""
    rule: Texts
    quantity_micro: Counts
    """Millionths of the unit; received +."""
    amount_micro_eur: Counts
    """To pay +, credit −: the ledger's amounts with the opposite sign."""
    one_way: NDArray[np.bool_]
    """Whether all quantities of the line have the same direction: only then there is one price."""

    @property
    def quantity(self) -> Vector:
        """Quantity in the line's unit, shape (b,)."""
        return self.quantity_micro / 1e6

    @property
    def unit(self) -> Texts:
        """Unit of the quantity, shape (b,)."""
        units = np.empty(self.line.size, dtype=object)
        units[:] = [KINDS[kind] for kind in self.line.tolist()]
        return units

    @property
    def amount_eur(self) -> Vector:
        """Amount, to pay +, shape (b,). [eur]"""
        return self.amount_micro_eur / 1e6

    @property
    def price_eur(self) -> Vector:
        """Mean price per unit; NaN where the quantity is zero or has both directions, shape (b,). [eur]"""
        priced = self.one_way & (self.quantity_micro != 0)
        return np.where(priced, self.amount_micro_eur / np.where(priced, self.quantity_micro, 1), np.nan)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns of the table ``bills``."""
        return {
            "agent_id": self.agent_id, "period": self.period, "line": self.line, "quantity": self.quantity,
            "unit": self.unit, "price_eur": self.price_eur, "amount_eur": self.amount_eur, "rule": self.rule,
        }  # fmt: skip


def bills(ledger: Ledger, starts: NDArray[np.datetime64] | None = None, labels: Sequence[str] | None = None) -> Bills:
    """Sum a ledger up to bills.

    Parameters
    ----------
    ledger
        Postings of one or several delivery days.
    starts : shape (d,)
        When the periods begin, in UTC and in order; None: the ledger is one period, which begins with its first posting.
    labels : length d
        What the periods are called; None: their start, ``2016-07-18T10:00Z``.
    """
    if starts is None:
        starts = ledger.time.min(keepdims=True) if ledger.size else np.array(["1970-01-01"], dtype="datetime64[s]")
    if labels is None:
        labels = [f"{moment}Z" for moment in np.datetime_as_string(np.asarray(starts), unit="m").tolist()]
    period = np.searchsorted(np.asarray(starts, dtype="datetime64[s]"), ledger.time, side="right") - 1
    if (period < 0).any():
        raise BillError(f"a posting of {ledger.time.min()}Z lies before the first period, which begins {starts[0]}Z.")

    accounts, account = _factorised(ledger.account, sorted(set(ledger.account.tolist())))
    rules, rule = _factorised(ledger.rule, sorted(set(ledger.rule.tolist())))
    kinds, kind = _factorised(ledger.kind, list(KINDS))
    key = ((period * len(accounts) + account) * len(kinds) + kind) * len(rules) + rule
    lines, index = np.unique(key, return_inverse=True)
    quantity, gross, amount = (np.zeros(lines.size, dtype=np.int64) for _ in range(3))
    np.add.at(quantity, index, ledger.quantity_micro)
    np.add.at(gross, index, np.abs(ledger.quantity_micro))
    np.add.at(amount, index, ledger.amount_micro_eur)
    rest, of_rule = np.divmod(lines, max(len(rules), 1))
    rest, of_kind = np.divmod(rest, len(kinds))
    of_period, of_account = np.divmod(rest, max(len(accounts), 1))
    return Bills(
        agent_id=accounts[of_account],
        period=np.array([*labels], dtype=object)[of_period],
        line=kinds[of_kind],
        rule=rules[of_rule],
        quantity_micro=quantity,
        amount_micro_eur=-amount,
        one_way=np.abs(quantity) == gross,
    )


def _factorised(texts: Texts, known: list[str]) -> tuple[Texts, Counts]:
    """Return the known texts as an array, and which of them each text is."""
    place = {text: i for i, text in enumerate(known)}
    array = np.empty(len(known), dtype=object)
    array[:] = known
    return array, np.array([place[text] for text in texts.tolist()], dtype=np.int64)
