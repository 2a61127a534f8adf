"""The books: double entry in whole numbers, chained by hashes.

A posting moves energy and money into an account (negative: out of it).  Postings of one transaction sum to zero in
both.  Amounts are micro-euro and milli-watt-hour, so that a price in eur/kWh times milli-watt-hours is micro-euro::

    1 kWh = 10⁶ mWh        amount [µ€] = round(energy [mWh] · price [€/kWh])                               (1)

Energy stands only in postings of the kinds that carry metered energy (exchange, rented flows, retail energy, feed-in,
losses): per agent and interval they sum to what its meter saw.  What other kinds are charged ON (the kWh a network
charge is due for, the kW of a right) is their ``quantity_micro``, in millionths of the unit of :data:`KINDS`, with the
sign of what the account receives.  It explains a bill and is not part of the chain.

The chain.  Every posting has the hash ::

    hash = sha256(previous_hash + json)                                                                    (2)

in lower-case hexadecimal, where ``previous_hash`` is the hash of the posting before it (empty at the first of a run)
and ``json`` is the posting as JSON in UTF-8 with sorted keys and no spaces, characters beyond ASCII as they are.  The
keys are ``account``, ``amount_micro_eur``, ``energy_milliwatt_hour``, ``kind``, ``posting_id``, ``rule``, ``time`` and
``transaction_id``; both amounts are numbers, everything else is a string, ``time`` reads ``2016-07-18T10:00:00Z``, the
two ids are counters that begin at "1" and go on from day to day.  Who changes one posting has to change every hash
after it: a copy of the last one, kept elsewhere, gives it away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "METERED_KINDS", "Chain", "Ledger", "LedgerError", "Postings"]

Counts = NDArray[np.int64]
Texts = NDArray[np.object_]
Times = NDArray[np.datetime64]

KINDS: dict[str, str] = {
    "exchange_day_ahead": "kWh",
    "exchange_intraday": "kWh",
    "exchange_settled": "kWh",
    "rented_flow": "kWh",
    "retail_energy": "kWh",
    "retail_network": "kWh",
    "retail_levies": "kWh",
    "retail_vat": "kWh",
    "retail_fixed": "day",
    "feed_in": "kWh",
    "local_network": "kWh",
    "local_levies": "kWh",
    "local_vat": "kWh",
    "rent_energy": "kWh",
    "rent_power": "kW",
    "throughput_fee": "kWh",
    "firm_service": "kWh",
    "handover": "kWh",
    "losses": "kWh",
    "network_losses": "kWh",
    "network_congestion": "kWh",
    "aggregator_fee": "day",
}
"""The kinds of postings with the unit of their quantity, in the order in which they stand on a bill."""

METERED_KINDS = frozenset(
    ("exchange_day_ahead", "exchange_intraday", "exchange_settled", "rented_flow", "retail_energy", "feed_in", "losses")
)
"""The kinds whose postings carry energy."""


class LedgerError(RuntimeError):
    """The books do not balance, or the chain is broken; the message names the first transaction or posting."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a chain stands: what the next posting continues from."""

    previous_hash: str = ""
    posting_id: int = 1
    """Of the next posting."""
    transaction_id: int = 1
    """Of the next transaction."""


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Postings in the order of the chain; every array has shape (p,)."""

    posting_id: Counts
    transaction_id: Counts
    time: Times
    """Start of the interval in UTC, ``datetime64[s]``."""
    account: Texts
    kind: Texts
    rule: Texts
    energy_milliwatt_hour: Counts
    """To the account +."""
    amount_micro_eur: Counts
    """To the account +."""
    quantity_micro: Counts
    """What is charged on, in millionths of the kind's unit; what the account receives is +."""
    hash: Texts
    begin: Chain
    """Where the chain stood before the first posting."""

    @property
    def size(self) -> int:
        """Number of postings."""
        return int(self.posting_id.size)

    @property
    def end(self) -> Chain:
        """Where the chain stands after the last posting."""
        if not self.size:
            return self.begin
        return Chain(str(self.hash[-1]), int(self.posting_id[-1]) + 1, int(self.transaction_id[-1]) + 1)

    def append(self, later: Ledger) -> Ledger:
        """Return this ledger with a later one behind it, which must continue its chain."""
        if later.begin != self.end:
            raise LedgerError(
                f"posting {later.begin.posting_id} does not continue posting {self.end.posting_id - 1}. Settle a day "
                f"with the end of the day before (ledger.end)."
            )
        names = [name for name in self.__slots__ if name != "begin"]
        joined = {name: np.concatenate([getattr(self, name), getattr(later, name)]) for name in names}
        return Ledger(**joined, begin=self.begin)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns of the table ``ledger``: texts as objects, the time as datetime64[s], amounts as int64."""
        previous = np.empty(self.size, dtype=object)
        previous[1:], previous[:1] = self.hash[:-1], self.begin.previous_hash
        return {
            "posting_id": _objects(str(i) for i in self.posting_id.tolist()),
            "transaction_id": _objects(str(i) for i in self.transaction_id.tolist()),
            "time": self.time,
            "account": self.account,
            "kind": self.kind,
            "rule": self.rule,
            "energy_milliwatt_hour": self.energy_milliwatt_hour,
            "amount_micro_eur": self.amount_micro_eur,
            "previous_hash": previous,
            "hash": self.hash,
        }

    def texts(self) -> Iterator[str]:
        """Yield every posting as the JSON text of (2), formatted by hand because a year has tens of millions."""
        account = {name: f'{{"account":{_json(name)},"amount_micro_eur":' for name in set(self.account.tolist())}
        kind = {name: f',"kind":{_json(name)},"posting_id":"' for name in set(self.kind.tolist())}
        rule = {name: f'","rule":{_json(name)},"time":"' for name in set(self.rule.tolist())}
        moments, index = np.unique(self.time, return_inverse=True)
        time = [f'{moment}Z","transaction_id":"' for moment in np.datetime_as_string(moments, unit="s").tolist()]
        rows = zip(
            self.account.tolist(),
            self.amount_micro_eur.tolist(),
            self.energy_milliwatt_hour.tolist(),
            self.kind.tolist(),
            self.posting_id.tolist(),
            self.rule.tolist(),
            index.tolist(),
            self.transaction_id.tolist(),
            strict=True,
        )
        for a, amount, energy, k, posting, r, t, transaction in rows:
            yield (
                f'{account[a]}{amount},"energy_milliwatt_hour":{energy}{kind[k]}{posting}{rule[r]}{time[t]}{transaction}"}}'
            )

    def broken_link(self) -> int | None:
        """Return the index of the first posting whose hash is not (2), or None if the chain holds."""
        previous = self.begin.previous_hash
        for index, (text, claimed) in enumerate(zip(self.texts(), self.hash.tolist(), strict=True)):
            previous = sha256((previous + text).encode()).hexdigest()
            if previous != claimed:
                return index
        return None

    def check_balance(self) -> None:
        """Make sure that every transaction sums to zero in money and in energy; raises :class:`LedgerError`."""
        ids, index = np.unique(self.transaction_id, return_inverse=True)
        energy, amount = np.zeros(ids.size, dtype=np.int64), np.zeros(ids.size, dtype=np.int64)
        np.add.at(energy, index, self.energy_milliwatt_hour)
        np.add.at(amount, index, self.amount_micro_eur)
        wrong = np.flatnonzero((energy != 0) | (amount != 0))
        if wrong.size:
            first = int(wrong[0])
            posting = int(np.flatnonzero(index == first)[0])
            raise LedgerError(
                f"{wrong.size} transaction(s) do not sum to zero; the first is {ids[first]} ({self.kind[posting]}, "
                f"{self.time[posting]}Z): it sums to {amount[first]} micro-euro and {energy[first]} milli-watt-hours."
            )


class Postings:
    """Collects the postings of one delivery day and closes them into a :class:`Ledger`.

    Parameters
    ----------
    accounts
        Their names; postings name an account by its index.
    times : shape (T,)
        Starts of the intervals, ``datetime64`` in UTC; postings name an interval by its index.
    """

    def __init__(self, accounts: tuple[str, ...], times: Times) -> None:
        self.accounts, self.times = accounts, times
        self._labels: list[tuple[str, str]] = []
        self._blocks: list[tuple[Counts, ...]] = []

    def add(
        self, kind: str, rule: str, step: Counts, account: Counts, energy: Counts, amount: Counts, quantity: Counts
    ) -> None:
        """Add one transaction for each interval that occurs in ``step``; all arrays of shape (p,).

        Postings of neither energy nor money are left out.
        """
        if kind not in KINDS:
            raise LedgerError(f"postings of kind {kind!r} are not known. Known are: {', '.join(KINDS)}.")
        some = (energy != 0) | (amount != 0)
        label = np.full(int(some.sum()), len(self._labels), dtype=np.int64)
        self._labels.append((kind, rule))
        self._blocks.append((step[some], label, account[some], energy[some], amount[some], quantity[some]))

    def pooled(
        self, kind: str, rule: str, rows: Counts, counter: int, amount: Counts, quantity: Counts, *, moves: bool = False
    ) -> None:
        """Add, for each interval, many agents' postings against ONE of the counterparty.

        Parameters
        ----------
        rows : shape (k,)
            The agents' accounts.
        counter
            The counterparty's account.
        amount, quantity : shape (k, T)
            The agents' postings.
        moves
            The quantity is metered energy [mWh] and is posted as such.
        """
        steps = np.arange(amount.shape[1])
        step = np.concatenate([np.repeat(steps, len(rows)), steps])
        account = np.concatenate([np.tile(rows, steps.size), np.full(steps.size, counter)])
        money = np.concatenate([amount.T.ravel(), -amount.sum(axis=0)])
        charged = np.concatenate([quantity.T.ravel(), -quantity.sum(axis=0)])
        self.add(kind, rule, step, account, charged if moves else np.zeros_like(charged), money, charged)

    def close(self, chain: Chain) -> Ledger:
        """Return the postings ordered by time, then as they were added, continuing ``chain``."""
        step, label, account, energy, amount, quantity = (
            np.concatenate([block[column] for block in self._blocks] or [np.zeros(0, dtype=np.int64)])
            for column in range(6)
        )
        order = np.argsort(step, kind="stable")
        step, label = step[order], label[order]
        begins = np.ones(step.size, dtype=bool)
        begins[1:] = (step[1:] != step[:-1]) | (label[1:] != label[:-1])
        open_books = Ledger(
            posting_id=np.arange(chain.posting_id, chain.posting_id + step.size),
            transaction_id=chain.transaction_id - 1 + np.cumsum(begins),
            time=self.times.astype("datetime64[s]")[step],
            account=_objects(self.accounts)[account[order]],
            kind=_objects(kind for kind, _ in self._labels)[label],
            rule=_objects(rule for _, rule in self._labels)[label],
            energy_milliwatt_hour=energy[order],
            amount_micro_eur=amount[order],
            quantity_micro=quantity[order],
            hash=np.empty(0, dtype=object),
            begin=chain,
        )
        hashes, previous = [], chain.previous_hash
        for text in open_books.texts():
            previous = sha256((previous + text).encode()).hexdigest()
            hashes.append(previous)
        columns = {name: getattr(open_books, name) for name in open_books.__slots__}
        return Ledger(**(columns | {"hash": _objects(hashes)}))


def _objects(texts: Iterator[str] | list[str] | tuple[str, ...]) -> Texts:
    listed = list(texts)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
