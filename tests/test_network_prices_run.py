"""``dso.network: none | envelopes | prices``: one word of a scenario, from the clearing to the certified books and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.certify import certify
from sim.results import Run
from sim.run import run
from sim.scenario import ScenarioError, load

STREET = Path(__file__).parent.parent / "examples" / "street" / "scenario.yaml"
TIGHT = ("grid.v_max_pu=1.015", "grid.loading_max_percent=30")
"""The street's farm then has more sun than its line may carry."""


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A day of the street, cleared with its feeder at the table."""
    folder = tmp_path_factory.mktemp("priced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMONWATT_CACHE", str(folder / "cache"))
        return run(load(STREET, sets=(*TIGHT, "dso.network=prices"), days=1), folder / "run")


def test_a_run_with_prices_is_certified(priced: Run) -> None:
    """Every check passes, the books among them, which hold losses and congestion at every meter."""
    found = certify(priced.path)
    assert found.ok, [(check.name, check.detail) for check in found.checks if not check.ok]


def test_parts_of_a_price_are_told_and_paid(priced: Run) -> None:
    """Energy is the pool's price; what is paid on a meter is price times energy, to the micro-euro; the DSO gets it, and it sums to zero."""
    prices = priced.query(
        "SELECT count(*) AS n, max(abs(l.energy_eur_per_kwh - p.energy_eur_per_kwh)) AS off, min(congestion_eur_per_kwh) AS least "
        "FROM locational_prices l JOIN (SELECT DISTINCT stage, time, energy_eur_per_kwh FROM prices) p USING (stage, time)"
    ).to_pylist()[0]
    assert prices["n"] > 0
    assert prices["off"] == 0.0
    assert prices["least"] < -0.01, "nothing is congested: the test says nothing"
    off = priced.query(
        "WITH paid AS (SELECT account AS agent_id, time, kind, sum(amount_micro_eur) AS paid FROM ledger "
        "WHERE kind LIKE 'network_%' AND account <> 'dso' GROUP BY ALL), owed AS (SELECT agent_id, time, "
        "-(congestion_eur_per_kwh * meter_kw * 0.5e6) AS owed FROM locational_prices JOIN meters USING (time, agent_id) "
        "WHERE stage = 'intraday') SELECT max(abs(paid - owed)) AS off, sum(abs(paid)) AS size FROM paid JOIN owed "
        "USING (agent_id, time) WHERE kind = 'network_congestion'"
    ).to_pylist()[0]
    assert off["size"] > 1e5
    assert off["off"] <= 1.0
    sums = priced.query("SELECT kind, sum(amount_micro_eur) AS all_of_it, sum(amount_micro_eur) FILTER (WHERE account = 'dso') AS dso "
                        "FROM ledger WHERE kind LIKE 'network_%' GROUP BY ALL").to_pylist()  # fmt: skip
    assert {row["kind"] for row in sums} == {"network_losses", "network_congestion"}
    assert all(row["all_of_it"] == 0 and row["dso"] for row in sums)


def test_bands_are_announced_before_they_bind(priced: Run) -> None:
    """One band at the gate and one before each of 24 hours, each of the rest of the day, and meters are inside or it is told."""
    issues = priced.query("SELECT issued_at, min(time) AS first FROM envelopes GROUP BY ALL ORDER BY ALL").to_pylist()
    assert len(issues) == 25
    assert all(row["issued_at"] < row["first"] for row in issues)


def test_what_each_word_costs(priced: Run) -> None:
    """With none limits are broken; prices keep them, and cost no more than envelopes, which are one way among those they choose from."""
    rows = {row["network"]: row for row in json.loads((priced.path / "manifest.json").read_text())["network_words"]}
    assert list(rows) == ["none", "envelopes", "prices"]
    assert rows["none"]["broken"] > 0
    assert rows["envelopes"]["broken"] == rows["prices"]["broken"] == 0
    assert 0.0 < rows["prices"]["lost_eur"] < rows["envelopes"]["lost_eur"]
    page = (priced.path / "report.html").read_text(encoding="utf-8")
    assert "None, envelopes or prices?" in page
    assert f"{rows['prices']['lost_eur']:.2f}" in page


@pytest.mark.parametrize(
    ("sets", "network", "envelopes"),
    [((), "envelopes", True), (("dso.envelopes=false",), "none", False), (("dso.network=none",), "none", False),
     (("dso.network=prices",), "prices", False)],
)  # fmt: skip
def test_one_word_says_it(sets: tuple[str, ...], network: str, envelopes: bool) -> None:
    """Old files say envelopes: false, which is none; the word alone is enough."""
    dso = load(STREET, sets=sets).dso
    assert (dso.network, dso.envelopes) == (network, envelopes)


def test_two_words_that_say_two_things_are_refused() -> None:
    """Envelopes and prices together, or robust envelopes where there are none: told at once."""
    with pytest.raises(ScenarioError, match="leave envelopes out"):
        load(STREET, sets=("dso.network=prices", "dso.envelopes=true"))
    with pytest.raises(ScenarioError, match="must be deterministic"):
        load(STREET, sets=("dso.network=prices", "dso.mode=robust"))
