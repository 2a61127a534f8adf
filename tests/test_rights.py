"""Rights to a shared storage: opened, in force, closed; what cannot be let."""

from __future__ import annotations

import numpy as np
import pytest

from market.settlement import Delivery, settle
from market.tariffs import Tariff
from storage.rights import Book, Rights, RightsError, Terms

NOON = np.datetime64("2016-07-18T10:00:00", "s")
DAY = np.timedelta64(1, "D")
TERMS = Terms(0.04, 0.02, 0.02, 0.01)


def let(
    book: Book,
    start=NOON,
    end=NOON + DAY,
    agents=("a", "b", "c"),
    energy=(2.0, 1e-9, 0.0),
    power=(1.0, 0.0, 0.5),
    **more,
):
    return book.open("ess", agents, np.array(energy), np.array(power), start, end, TERMS, **more)


def test_a_day_of_rights_by_hand():
    """Who gets a millionth or less gets no right; rents are reserve and scarcity together; ids say whose and when."""
    rights = let(Book())

    assert rights.right_id.tolist() == ["ess/a/2016-07-18T10:00Z", "ess/c/2016-07-18T10:00Z"]
    assert rights.energy_kwh.tolist() == [2.0, 0.0]
    assert rights.power_kw.tolist() == [1.0, 0.5]
    np.testing.assert_allclose(rights.rent_energy_eur_per_kwh, 0.06)
    np.testing.assert_allclose(rights.rent_power_eur_per_kw, 0.03)
    assert rights.firm.all()
    assert list(rights.columns()) == [
        "stage", "right_id", "ess_id", "agent_id", "start", "end", "energy_kwh", "power_kw",
        "rent_energy_eur_per_kwh", "rent_power_eur_per_kw", "firm",
    ]  # fmt: skip


def test_a_right_is_in_force_from_its_start_until_before_its_end():
    """At its end it is closed, and forgotten; the next day's are untouched."""
    book = Book()
    let(book)
    let(book, NOON + DAY, NOON + 2 * DAY, agents=("a",), energy=(3.0,), power=(3.0,))

    assert book.held("ess", NOON - np.timedelta64(1, "s")).size == 0
    assert book.held("ess", NOON).size == 2
    assert book.held("ess", NOON + DAY).energy_kwh.tolist() == [3.0]
    assert book.held("other", NOON).size == 0
    assert book.close(NOON + DAY - np.timedelta64(1, "s")).size == 0
    assert book.close(NOON + DAY).agent_id.tolist() == ["a", "c"]
    assert book.close(NOON + DAY).size == 0
    assert book.held("ess", NOON + DAY).size == 1


def test_rights_are_settled_at_their_rents():
    """2 kWh at .06 and 1 kW at .03 for a, half a kW at .03 for c, all to the storage."""
    rights = let(Book())
    times = NOON + np.arange(2) * np.timedelta64(15, "m")
    tariff = Tariff("t", 0.2)
    names = ("a", "b", "c", "ess")
    ledger = settle(
        Delivery(
            names, times, 0.25, np.zeros((4, 2)), ("t",), (tariff.price(times, "UTC", {}),), np.zeros(4, int), np.zeros(1),
            ess_row=(3,), rents=rights.rents({name: i for i, name in enumerate(names)}, {"ess": 0}),
        )
    ).ledger  # fmt: skip

    paid = {name: int(ledger.amount_micro_eur[ledger.account == name].sum()) for name in names}
    assert paid == {"a": -150_000, "b": 0, "c": -15_000, "ess": 165_000}


def test_an_empty_clearing_lets_nothing():
    """Nobody wants anything: no rights, columns all the same, nothing to settle."""
    rights = let(Book(), energy=(0.0, 0.0, 0.0), power=(0.0, 0.0, 0.0))

    assert rights.size == 0
    assert rights.rents({}, {}).right_id == ()
    assert rights.columns()["start"].dtype == np.dtype("datetime64[s]")
    assert isinstance(rights, Rights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end": NOON}, "not after their start"),
        ({"agents": ("a", "a", "c")}, "named twice"),
        ({"energy": (1.0, 1.0)}, r"energy_kwh has shape \(2,\) for 3 agent"),
        ({"power": (1.0, -1.0, 0.0)}, "power_kw must be at least 0"),
        ({"energy": (1.0, np.nan, 0.0)}, "energy_kwh must be at least 0"),
        ({"offered_kwh": 1.9}, "energy_kwh sums to 2, and 1.9 is offered"),
        ({"offered_kw": 1.4}, "power_kw sums to 1.5, and 1.4 is offered"),
    ],
)
def test_what_cannot_be_let_is_told(change, message):
    """No time, doubled agents, wrong or negative figures, more than is offered."""
    with pytest.raises(RightsError, match=message):
        let(Book(), **change)


def test_nobody_holds_two_rights_to_one_storage_at_a_time():
    """An overlap is refused and named; right after the end is no overlap."""
    book = Book()
    let(book)
    with pytest.raises(RightsError, match="a, c already hold"):
        let(book, NOON + np.timedelta64(23, "h"), NOON + 2 * DAY)

    assert let(book, NOON + DAY, NOON + 2 * DAY).size == 2


def test_a_solvers_dust_beyond_the_offer_is_no_mistake():
    """Relative excess of a millionth passes; the offer itself passes."""
    assert let(Book(), offered_kwh=2.0 - 1e-6, offered_kw=1.5).size == 2


def test_rents_must_be_numbers():
    """NaN never becomes a rent."""
    with pytest.raises(RightsError, match="scarcity_energy_eur_per_kwh must be a number"):
        Terms(0.04, float("nan"))
