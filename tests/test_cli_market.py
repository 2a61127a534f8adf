"""`commonwatt market clear`: cases with known answers through the command line, and what its endings mean."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cli
from sim import clear as clearing
from sim.case_file import load
from sim.clear_result import MarketResult

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "market"


@pytest.fixture
def cleared(call):
    """Clear a case and give its result as programs see it."""

    def run(path, *words, code=0):
        ended, out, err = call("market", "clear", path, "--json", *words)
        assert (ended, err) == (code, "")
        return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return run


CLOSE = ("--tolerance", "1e-5")
"""Near enough for answers that are known by hand."""


def of(result, key):
    """One figure of every agent."""
    return [agent[key] for agent in result["agents"]]


# -- case A: two agents ------------------------------------------------------------------------------------------------


def test_two_agents_in_a_pool(cleared):
    """They meet at 2 kW and 6, win 4 together, and the certificate says that nothing is better."""
    result = cleared(EXAMPLES / "two_agents.yaml", "--mechanism", "pool")

    assert (result["mechanism"], result["status"]) == ("pool", "cleared")
    assert result["price_eur_per_kwh"] == pytest.approx([6.0], abs=1e-9)
    assert [power[0] for power in of(result, "power_kw")] == pytest.approx([-2.0, 2.0], abs=1e-9)
    assert result["cost_eur"] == pytest.approx(-4.0, abs=1e-9)
    assert of(result, "payment_eur") == pytest.approx([12.0, -12.0], abs=1e-9)
    assert of(result, "gain_eur") == pytest.approx([2.0, 2.0], abs=1e-9)
    assert result["certificate"]["bound_eur"] == pytest.approx(-4.0, abs=1e-9)
    assert result["certificate"]["max_agent_kkt_eur"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("sets", "power", "price", "cost"),
    [
        pytest.param((), 2.0, 6.0, -4.0, id="free of charge"),
        pytest.param(("trades.charge_eur_per_kwh=1",), 1.0, 6.0, -1.0, id="both pay 1"),
        pytest.param(("trades.limit_kw=0.8",), 0.8, None, -2.56, id="limited"),
    ],
)
def test_two_agents_as_a_pair(cleared, sets, power, price, cost):
    """The three variants of the case, known by hand: power, price and what it costs together."""
    result = cleared(
        EXAMPLES / "two_agents.yaml", "--verify", "central", *(word for one in sets for word in ("--set", one))
    )
    [trade] = result["trades"]

    assert (result["mechanism"], result["status"]) == ("bilateral", "converged")
    assert (trade["first"], trade["second"]) == ("C", "G")
    assert trade["power_kw"] == pytest.approx([-power], abs=1e-6)
    assert [p[0] for p in of(result, "power_kw")] == pytest.approx([-power, power], abs=1e-6)
    assert result["cost_eur"] == pytest.approx(cost, abs=1e-6)
    assert result["certificate"]["bound_eur"] == pytest.approx(cost, abs=1e-6)
    assert sum(of(result, "payment_eur")) == pytest.approx(0.0, abs=1e-12)
    if price is not None:
        assert trade["price_eur_per_kwh"] == pytest.approx([price], abs=1e-6)
        assert result["buy_price_eur_per_kwh"] == pytest.approx([price], abs=1e-6)
    assert result["verification"]["agrees"] is True


# -- case C: New England -----------------------------------------------------------------------------------------------


def test_new_england_in_a_pool(cleared):
    """31 agents: price, energy and what all win together are those that are known; the central solver agrees."""
    result = cleared(EXAMPLES / "new_england.yaml", "--mechanism", "pool", "--verify", "central")

    assert result["price_eur_per_kwh"][0] == pytest.approx(57.234302, abs=1e-6)
    assert result["traded_kwh"][0] == pytest.approx(3893.3494, abs=1e-4)
    assert result["cost_eur"] == pytest.approx(-92547.8749, abs=1e-3)
    assert result["currency"] == "usd"
    assert result["verification"]["agrees"] is True
    assert result["verification"]["cost_eur"] == pytest.approx(-92547.8749, abs=1e-2)
    assert result["verification"]["price_difference_eur_per_kwh"] < 1e-3


@pytest.mark.parametrize(
    ("charge", "price", "traded", "cost"),
    [(0, 57.234302, 3893.3494, -92547.8749), (1, 56.870696, 3706.4621, -84948.0635)],
)
def test_new_england_pair_by_pair(cleared, charge, price, traded, cost):
    """210 pairs find the one price, with a charge of 1 at each end as well; the prices' middle is what is known."""
    result = cleared(EXAMPLES / "new_england.yaml", "--set", f"trades.charge_eur_per_kwh={charge}")

    assert result["status"] == "converged"
    assert len(result["trades"]) == 210
    assert result["buy_price_eur_per_kwh"][0] == pytest.approx(price, abs=1e-5)
    assert result["traded_kwh"][0] == pytest.approx(traded, abs=1e-3)
    assert result["cost_eur"] == pytest.approx(cost, abs=1e-2)
    assert result["certificate"]["bound_eur"] == pytest.approx(cost, abs=1e-3)
    assert result["certificate"]["dual_asymmetry_eur_per_kwh"] < 1e-5
    assert result["certificate"]["max_agent_kkt_eur"] < 1e-2


def test_what_each_could_gain_pair_by_pair(cleared):
    """Stopped early, everybody's gain by deviating is its cost less that of trading what is best at its best pair's price."""
    result = cleared(EXAMPLES / "new_england.yaml", "--tolerance", "0.03")
    case = load(EXAMPLES / "new_england.yaml")
    prices = {agent.id: [] for agent in case.agents}
    for trade in result["trades"]:
        for end in ("first", "second"):
            prices[trade[end]].append(trade["price_eur_per_kwh"][0])
    expected = []
    for agent, found in zip(case.agents, result["agents"], strict=True):
        a, b, low, high = (float(np.ravel(getattr(agent, key))[0]) for key in ("a", "b", "p_min", "p_max"))
        price = max(prices[agent.id]) if high > 0 else min(prices[agent.id])
        power = min(max((price - b) / a, low), high)
        expected.append(found["cost_eur"] + found["payment_eur"] - (0.5 * a * power**2 + (b - price) * power))

    assert of(result, "deviation_gain_eur") == pytest.approx(expected, abs=1e-5)
    assert max(expected) == pytest.approx(result["certificate"]["max_agent_kkt_eur"], abs=1e-5)
    assert max(expected) > 1.0


def test_a_bound_is_not_above_the_cost_by_a_rounding(cleared):
    """Who must take 20 kW takes that but for the last digit, and the gap is not below 0."""
    agents = "agents=[{id: C, a: 1, b: 8, p_min: -30, p_max: -20}, {id: G, a: 1, b: 4, p_min: 0, p_max: 60}]"
    result = cleared(EXAMPLES / "two_agents.yaml", "--set", agents)

    assert result["cost_eur"] == pytest.approx(320.0, abs=1e-9)
    assert 0.0 <= result["certificate"]["gap"] <= 1e-9


def test_the_central_solver_agrees_pair_by_pair(cleared):
    """On the whole graph with a charge; prices and positions as well."""
    verification = cleared(
        EXAMPLES / "new_england.yaml", "--set", "trades.charge_eur_per_kwh=1", "--verify", "central"
    )["verification"]

    assert verification["agrees"] is True
    assert verification["cost_eur"] == pytest.approx(-84948.0635, abs=1e-1)
    assert verification["price_difference_eur_per_kwh"] < 1e-2
    assert verification["power_difference_kw"] < 1.0


# -- case I: two prosumers and a shared storage ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "cost", "rents"),
    [
        pytest.param(("exchange=false", "storage=[]"), 1.20, None, id="neither"),
        pytest.param(("exchange=false",), 0.80, 0.20, id="storage only"),
        pytest.param(("storage=[]",), 1.05, None, id="exchange only"),
        pytest.param((), 0.35, 0.35, id="both"),
    ],
)
def test_renting_and_trading_are_complements(cleared, sets, cost, rents):
    """Each of the four costs is known by hand, and so are the rents of a kWh and a kW together."""
    result = cleared(EXAMPLES / "shared_storage.yaml", *CLOSE, *(word for one in sets for word in ("--set", one)))

    assert result["status"] == "converged"
    assert result["alone_eur"] == pytest.approx(1.20, abs=1e-5)
    assert result["cost_eur"] == pytest.approx(cost, abs=1e-4)
    assert result["certificate"]["bound_eur"] <= cost + 1e-9
    if rents is not None:
        [storage] = result["storage"]
        scarcity = storage["rent_energy_scarcity_eur_per_kwh"] + storage["rent_power_scarcity_eur_per_kw"]
        assert scarcity == pytest.approx(rents, abs=1e-4)
        assert sum(tenant["right_energy_kwh"] for tenant in storage["tenants"]) == pytest.approx(2.0, abs=1e-4)
    if "exchange=false" in sets:
        assert result["price_eur_per_kwh"] == [None, None]
        assert result["traded_kwh"] == [0.0, 0.0]


def test_dual_prices_of_the_shared_storage(cleared):
    """The clearing's own payments: the sun gets nothing, the evening 0.15, the operator 0.70; they sum to zero."""
    result = cleared(EXAMPLES / "shared_storage.yaml", *CLOSE)

    assert result["price_eur_per_kwh"] == pytest.approx([0.05, 0.40], abs=1e-4)
    assert of(result, "alone_eur") == pytest.approx([-0.20, 1.40], abs=1e-9)
    assert of(result, "gain_eur") == pytest.approx([0.0, 0.15], abs=1e-4)
    [operator] = result["operators"]
    assert (operator["id"], operator["cost_eur"]) == ("operator", 0.0)
    assert operator["gain_eur"] == pytest.approx(0.70, abs=1e-4)
    assert sum(of(result, "payment_eur")) + operator["payment_eur"] == pytest.approx(0.0, abs=1e-9)
    assert result["certificate"]["rational"] is result["certificate"]["balanced"] is True


@pytest.mark.parametrize(
    ("rule", "gains"),
    [
        ("dual_prices", (0.0, 0.15, 0.70)),
        ("nash", (0.85 / 3, 0.85 / 3, 0.85 / 3)),
        ("shapley", (0.175, 0.375, 0.300)),
    ],
)
def test_divisions_of_the_shared_storage(cleared, rule, gains):
    """What two prosumers and the operator gain by three rules is known by hand."""
    division = cleared(EXAMPLES / "shared_storage.yaml", "--divide", rule)["division"]

    assert division["rule"] == rule
    assert [share["id"] for share in division["shares"]] == ["sun", "evening", "operator"]
    assert [share["gain_eur"] for share in division["shares"]] == pytest.approx(gains, abs=1e-6)
    assert division["rational"] is division["balanced"] is True
    assert division["imbalance_eur"] == pytest.approx(0.0, abs=1e-9)
    assert division["accuracy_eur"] < 1e-6
    assert division["excess_eur"] <= 1e-6  # each of the three is in the core


def test_an_agent_may_own_the_storage(cleared):
    """Then there is no operator: the evening, alone with its storage, moves nothing (it has no sun), and receives the rents."""
    result = cleared(EXAMPLES / "shared_storage.yaml", *CLOSE, "--set", "storage.ess.owner=evening")

    assert result["operators"] == []
    assert of(result, "alone_eur")[1] == pytest.approx(1.00, abs=1e-5)  # buys 2 kWh at 0.20 instead of 0.40
    assert sum(of(result, "gain_eur")) == pytest.approx(0.80 - 0.35, abs=1e-4)
    assert sum(of(result, "payment_eur")) == pytest.approx(0.0, abs=1e-9)


def test_a_rent_above_nothing_is_the_owners_cost(cleared):
    """Reserve rents and wear are paid by the tenants and borne by the owner, whose gain is the scarcity rent alone."""
    result = cleared(
        EXAMPLES / "shared_storage.yaml", *CLOSE, "--set", "storage.ess.rent_energy_eur_per_kwh=0.1", "--set", "storage.ess.wear_eur_per_kwh=0.01"
    )  # fmt: skip
    [operator], [storage] = result["operators"], result["storage"]

    assert result["cost_eur"] == pytest.approx(0.35 + 2 * 0.1 + 4 * 0.01, abs=1e-4)
    assert operator["cost_eur"] == pytest.approx(0.24, abs=1e-4)
    assert operator["gain_eur"] == pytest.approx(0.70 - 0.24, abs=1e-4)
    assert sum(t["reserve_rent_eur"] for t in storage["tenants"]) == pytest.approx(operator["cost_eur"], abs=1e-12)
    assert sum(t["scarcity_rent_eur"] for t in storage["tenants"]) == pytest.approx(operator["gain_eur"], abs=1e-12)


def test_the_central_solver_agrees_on_the_shared_storage(cleared):
    """Cost, and the bound that the prices give, are those of the optimum."""
    verification = cleared(EXAMPLES / "shared_storage.yaml", *CLOSE, "--verify", "central")["verification"]

    assert (verification["by"], verification["agrees"]) == ("central", True)
    assert verification["cost_eur"] == pytest.approx(0.35, abs=1e-5)
    assert verification["price_difference_eur_per_kwh"] < 1e-3


def test_prices_that_are_not_unique_are_told_with_their_range(call, tmp_path):
    """As much for sale as is needed: any price from 0.08 to 0.30 is one of the optimum, and the verification agrees whatever each found."""
    path = tmp_path / "even.yaml"
    path.write_text(
        "kind: prosumers\nprices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}\nagents: [{id: a, pv_kw: 2}, {id: b, load_kw: 2}, {id: c}]\n",
        encoding="utf-8",
    )
    result = json.loads(call("market", "clear", path, "--verify", "central", "--json")[1])
    text = call("market", "clear", path, "--verify", "central")[1]
    checked = result["verification"]

    assert checked["agrees"] is True
    assert checked["price_difference_eur_per_kwh"] > 0.01  # neither of the two is wrong
    assert checked["price_difference_interval"] == 0
    assert checked["price_range_eur_per_kwh"] == pytest.approx([0.08, 0.3])
    assert 0.08 <= result["price_eur_per_kwh"][0] <= 0.3
    assert "prices are not unique: every one from 0.08 to 0.3 is one of the optimum" in text


def test_a_netted_storage_earns_the_same_where_nothing_cancels(cleared):
    """Both tenants charge in the first hour: the box binds instead of the sum of the rights, and its price is the same 0.35."""
    result = cleared(EXAMPLES / "shared_storage.yaml", *CLOSE, "--set", "storage.ess.mode=netted")
    [storage] = result["storage"]

    assert result["cost_eur"] == pytest.approx(0.35, abs=1e-4)
    assert storage["net_kw"] == pytest.approx([2.0, -2.0], abs=1e-3)
    assert result["operators"][0]["gain_eur"] == pytest.approx(0.70, abs=1e-3)
    assert sum(of(result, "payment_eur")) + result["operators"][0]["payment_eur"] == pytest.approx(0.0, abs=1e-9)


# -- other mechanisms --------------------------------------------------------------------------------------------------


SHORT = """\
kind: prosumers
prices: {buy_eur_per_kwh: 0.20, sell_eur_per_kwh: 0.05}
agents:
  - {id: sun, pv_kw: 1}
  - {id: one, load_kw: 1}
  - {id: two, load_kw: 1}
"""


@pytest.mark.parametrize(
    ("mechanism", "sell", "buy", "gains"),
    [
        ("retailer", None, None, [0.0, 0.0, 0.0]),
        ("mid_market_rate", 0.125, 0.1625, [0.075, 0.0375, 0.0375]),
        ("supply_demand_ratio", 0.08, 0.14, [0.03, 0.06, 0.06]),
        ("vcg", 0.20, 0.20, [0.15, 0.0, 0.0]),
    ],
)
def test_price_rules_of_a_short_community(cleared, tmp_path, mechanism, sell, buy, gains):
    """One kWh of sun for two who need one each: what sellers get and buyers pay, all energy counted, is known by hand."""
    path = tmp_path / "short.yaml"
    path.write_text(SHORT, encoding="utf-8")
    result = cleared(path, "--mechanism", mechanism)

    assert result["mechanism"] == mechanism
    assert result["traded_kwh"] == pytest.approx([0.0 if mechanism == "retailer" else 1.0])
    assert of(result, "alone_eur") == pytest.approx([-0.05, 0.20, 0.20])
    if sell is not None:
        assert result["sell_price_eur_per_kwh"] == pytest.approx([sell])
    if mechanism == "supply_demand_ratio":
        assert result["buy_price_eur_per_kwh"] == pytest.approx([buy])
    if mechanism == "vcg":
        assert sum(of(result, "gain_eur")) == pytest.approx(sum(gains))
    else:
        assert of(result, "gain_eur") == pytest.approx(gains)


def test_two_agents_in_every_mechanism(cleared):
    """None wins more than the 4 that can be won; the auctions win them all."""
    won = {}
    for name in clearing.MECHANISMS["curves"]:
        words = () if name not in clearing.BY_RETAIL else ("--set", "retail={buy_eur_per_kwh: 9, sell_eur_per_kwh: 3}")
        result = cleared(EXAMPLES / "two_agents.yaml", "--mechanism", name, *words)
        assert result["mechanism"] == name
        won[name] = result["alone_eur"] - result["cost_eur"]

    assert max(won.values()) <= 4.0 + 1e-6
    assert won["retailer"] == 0.0
    for name in ("pool", "double_auction_uniform", "double_auction_pay_as_bid", "vcg"):
        assert won[name] == pytest.approx(4.0, abs=1e-6)


def test_the_seed_decides_who_arrives_first(cleared):
    """The same seed gives the same book, another may give another; the case's seed is what --seed changes."""
    first, again, other = (
        cleared(EXAMPLES / "new_england.yaml", "--mechanism", "order_book", "--seed", seed) for seed in (1, 1, 2)
    )

    assert first == again
    assert first["agents"] != other["agents"]


def test_a_mechanism_has_options(cleared, call):
    """The k of a double auction moves the price between the two last offers; what it does not know is refused."""
    words = ("--mechanism", "double_auction_uniform", "--set", "options.steps=4")
    low, high = (
        cleared(EXAMPLES / "two_agents.yaml", *words, "--set", f"options.k={k}")["price_eur_per_kwh"][0] for k in (0, 1)
    )
    assert low < 6.0 < high

    for said, sets in (
        ("has no option q; it has k, ties, steps.", "options.q=1"),
        ("options of double_auction_uniform are", "options.k=wide"),
        ("must be a finite number or a text", "options.k=.nan"),
    ):
        code, _, err = call("market", "clear", EXAMPLES / "two_agents.yaml", *words, "--set", sets)
        assert (code, said in err) == (2, True), err
    assert call("market", "clear", EXAMPLES / "two_agents.yaml", "--mechanism", "pool", "--set", "options.k=1")[0] == 2


@pytest.mark.parametrize("mechanism", clearing.RULES)
def test_the_options_of_the_page_are_those_that_a_mechanism_takes(cleared, call, mechanism):
    """Every option that is named where an unknown one is refused is taken, and stands in the table of docs/case.md."""
    words = ("--mechanism", mechanism, "--set", "retail={buy_eur_per_kwh: 7, sell_eur_per_kwh: 5}")
    _, _, said = call("market", "clear", EXAMPLES / "two_agents.yaml", *words, "--set", "options.q=1")
    told = said.rpartition("it has ")[2].strip(" .\n")
    named = () if told == "none" else tuple(told.split(", "))
    row = next(line for line in (ROOT / "docs/case.md").read_text().splitlines() if line.startswith(f"| `{mechanism}`"))

    assert said.count("\n") == 1
    assert [one for one in ("k", "ties", "steps", "price_sensitivity_kw2h_per_eur")
            if re.search(rf"[(, ]{one}[,)]", row)] == list(named)  # fmt: skip
    for one in named:
        value = {"k": 0.5, "ties": "even", "steps": 3}.get(one, 2.0)
        cleared(EXAMPLES / "two_agents.yaml", *words, "--set", f"options.{one}={value}")


def test_who_does_not_trade_in_mcafees_auction_is_told_why(cleared, tmp_path):
    """One seller and one buyer who would agree do not trade in McAfee's auction, and the note does not say that they would not."""
    case = tmp_path / "pair.yaml"
    case.write_text(
        "kind: prosumers\nprices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.1}\nagents:\n"
        "  - {id: a, pv_kw: [2]}\n  - {id: b, load_kw: [1]}\n"
    )

    agreed, left = (cleared(case, "--mechanism", name) for name in ("double_auction_uniform", "mcafee"))

    assert (agreed["traded_kwh"], left["traded_kwh"], left["status"]) == ([1.0], [0.0], "no_trade")
    assert ["last two who would agree" in note for note in left["notes"]] == [True]


# -- the street --------------------------------------------------------------------------------------------------------


def test_the_street_is_better_off_together(cleared):
    """Everybody gains, the cars are full in time, envelopes hold, energy and money balance."""
    result = cleared(EXAMPLES / "street.yaml")

    assert result["status"] == "converged"
    assert result["certificate"]["gap"] < 1e-3
    assert min(of(result, "gain_eur")) > 0.1
    assert result["cost_eur"] < 0.7 * result["alone_eur"]
    for t in range(24):
        assert math.fsum(power[t] for power in of(result, "power_kw")) == pytest.approx(0.0, abs=1e-9)
    agents = {agent["id"]: agent for agent in result["agents"]}
    assert agents["Buche"]["stores"][0]["energy_kwh"][19] >= 41.0 - 1e-9
    assert agents["Linde"]["stores"][0]["energy_kwh"][20] >= 30.0 - 1e-9
    assert min(agents["Eiche"]["meter_kw"]) >= -5.4 - 1e-9
    assert all(breach == 0.0 for agent in agents.values() for breach in agent["breach_kw"])
    money = sum(of(result, "cost_eur")) + sum(one["cost_eur"] for one in result["operators"])
    assert money == pytest.approx(result["cost_eur"], abs=1e-9)


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_result_is_what_its_schema_says(cleared):
    """Every key is one that is documented, and none is missing."""
    for name in ("two_agents", "shared_storage"):
        result = cleared(EXAMPLES / f"{name}.yaml")

        assert MarketResult.model_validate(result).model_dump(mode="json") == result


def test_the_terminal_shows_prices_people_and_the_certificate(call):
    """People see a table; its last column is what they gain."""
    code, out, err = call(
        "market", "clear", EXAMPLES / "shared_storage.yaml", "--divide", "nash", "--verify", "central"
    )

    assert (code, err) == (0, "")
    for words in (
        "price [eur/kWh]",
        "gain [eur]",
        "operator",
        "scarcity rent [eur]",
        "gap ",
        "nash",
        "central   agrees",
    ):
        assert words in out
    [evening] = [
        line.split() for line in out.splitlines() if line.split()[:1] == ["evening"] and len(line.split()) == 9
    ]
    assert float(evening[-1]) == pytest.approx(0.15, abs=1e-3)


def test_a_result_does_not_replace_its_case(call, tmp_path):
    """--out that names the case is refused, and the case is as it was."""
    mine = tmp_path / "mine.yaml"
    mine.write_bytes((EXAMPLES / "two_agents.yaml").read_bytes())
    before = mine.read_bytes()
    code, _, err = call("market", "clear", str(mine), "--out", str(tmp_path / "." / "mine.yaml"))

    assert code == 2
    assert "it is the case itself" in err
    assert mine.read_bytes() == before


def test_quiet_says_nothing_and_out_keeps_everything(call, tmp_path):
    """--out writes the JSON, whatever the terminal shows."""
    path = tmp_path / "result.json"

    assert call("market", "clear", EXAMPLES / "two_agents.yaml", "--quiet", "--out", path) == (0, "", "")
    assert json.loads(path.read_text(encoding="utf-8"))["cost_eur"] == pytest.approx(-4.0, abs=1e-4)
    code, _, err = call("market", "clear", EXAMPLES / "two_agents.yaml", "--out", tmp_path / "nowhere" / "x.json")
    assert code == 2
    assert "no such file or folder" in err


CAR = """\
kind: prosumers
prices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}
intervals: 2
agents:
  - {id: a, load_kw: 1, stores: [{kind: vehicle, energy_kwh: 50, charge_kw: 3, needed_kwh: 10}]}
  - {id: b, pv_kw: 2}
"""


EMPTY = {
    "prosumers": "kind: prosumers\nprices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}\nstorage: [{energy_kwh: 2, power_kw: 2}]\nagents: ",
    "curves": "kind: curves\ntrades: {between: all}\nretail: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}\nagents: ",
}
LONELY = {"prosumers": "[{id: a, load_kw: 1}]", "curves": "[{id: a, b: 0.2, p_min: -1, p_max: 1}]"}


@pytest.mark.parametrize("kind", ["prosumers", "curves"])
@pytest.mark.parametrize("agents", ["nobody", "one"])
def test_nobody_and_one_alone_are_markets(call, tmp_path, kind, agents):
    """Every mechanism takes them, verified and divided, as a table and as JSON; nothing is gained."""
    path = tmp_path / "case.yaml"
    path.write_text(EMPTY[kind] + ("[]" if agents == "nobody" else LONELY[kind]) + "\n", encoding="utf-8")
    for name in clearing.MECHANISMS[kind]:
        more = [(), ("--json",)]
        more += [("--verify", "central", "--json")] if name in clearing.OPTIMAL else []
        more += [("--divide", "shapley", "--json")] if name in clearing.OPTIMAL else []
        for words in more:
            code, out, err = call("market", "clear", path, "--mechanism", name, *words)
            assert (code, err) == (0, ""), (name, words, err)
            if "--json" in words:
                result = json.loads(out)
                assert sum(of(result, "gain_eur")) == pytest.approx(0.0, abs=1e-4)


def test_a_watt_does_not_pay_for_space_as_ten_megawatts_do(cleared, tmp_path):
    """Two homes of some watts beside factories and a storage of two kilowatts: nobody loses, by more than it turns over."""
    path = tmp_path / "watts.yaml"
    path.write_text(
        "kind: prosumers\nprices: {buy_eur_per_kwh: [0.3, 0.4], sell_eur_per_kwh: 0.05}\nagents:\n"
        "  - {id: a, load_kw: [0.001, 0.002], pv_kw: [0.003, 0], stores: [{kind: battery, energy_kwh: 0.002}]}\n"
        "  - {id: b, load_kw: 10000}\n"
        "  - {id: c, pv_kw: [12000, 0], stores: [{kind: battery, energy_kwh: 4000}]}\n"
        "  - {id: d, pv_kw: [0.002, 0]}\n"
        "storage: [{id: ess, energy_kwh: 2, power_kw: 2}]\n",
        encoding="utf-8",
    )
    result = cleared(path)

    assert min(of(result, "gain_eur")) >= -1e-6
    assert [gain < 0.002 for gain in of(result, "deviation_gain_eur")] == [True, False, False, True]


def test_a_tie_does_not_keep_a_clearing_from_converging(cleared):
    """Rent of space and rent of power are one sum of 0.35; how it is split is decided slowly, and costs nobody anything."""
    result = cleared(EXAMPLES / "shared_storage.yaml", "--tolerance", "1e-7")
    [ess] = result["storage"]

    assert result["status"] == "converged"
    assert result["cost_eur"] == pytest.approx(0.35, abs=1e-9)
    assert result["certificate"]["bound_eur"] == pytest.approx(0.35, abs=1e-7)
    assert result["price_eur_per_kwh"] == pytest.approx([0.05, 0.40], abs=1e-9)
    rents = ess["rent_energy_scarcity_eur_per_kwh"] + ess["rent_power_scarcity_eur_per_kw"]
    assert rents == pytest.approx(0.35, abs=1e-5)


def test_negative_prices_are_no_engine(cleared, tmp_path):
    """A full store that could burn 0.2 kWh in its losses, paid 0.1 for each, does not; the gap tells the 0.02 that it forgoes."""
    path = tmp_path / "negative.yaml"
    path.write_text(
        "kind: prosumers\nprices: {buy_eur_per_kwh: [-0.1, 0.3], sell_eur_per_kwh: [-0.2, 0.08]}\n"
        "agents: [{id: a, stores: [{kind: battery, energy_kwh: 4, initial_kwh: 4, efficiency_charge: 0.9}]}, {id: b, load_kw: 1}]\n",
        encoding="utf-8",
    )
    result = cleared(path)
    [store] = result["agents"][0]["stores"]

    assert all(min(pair) == 0.0 for pair in zip(store["charge_kw"], store["discharge_kw"], strict=True))
    assert result["certificate"]["gap_eur"] == pytest.approx(0.02, abs=1e-4)
    assert result["cost_eur"] == pytest.approx(0.2, abs=1e-9)


def failed(call, path, *words):
    """The result of a case that ends with 3, as programs see it, and what is said on standard error."""
    code, out, err = call("market", "clear", path, "--json", *words)
    assert code == 3
    return json.loads(out), err.splitlines()


@pytest.mark.parametrize("mechanism", ["exchange", "mid_market_rate"])
def test_what_cannot_be_had_is_infeasible_and_the_others_trade(call, tmp_path, mechanism):
    """Exit code 3 with the agent and what is missing; the car takes what it can get, and the neighbours' market is there."""
    path = tmp_path / "car.yaml"
    path.write_text(CAR, encoding="utf-8")
    result, said = failed(call, path, "--mechanism", mechanism)
    code, out, err = call("market", "clear", path, "--mechanism", mechanism)

    assert MarketResult.model_validate(result).model_dump(mode="json") == result
    assert (result["status"], result["relaxed"]) == ("infeasible", [])
    assert len(result["infeasible"]) == 1
    assert "agent 'a', store 0" in said[0]
    assert "4 kWh short of the 10 kWh" in said[0]
    assert said == result["infeasible"]
    assert result["traded_kwh"] == pytest.approx([2.0, 2.0], abs=1e-3)
    assert (code, err.splitlines()) == (3, said)
    assert f"case: {mechanism}, infeasible" in out


def test_who_leaves_the_envelope_is_told_with_the_time_and_the_power(call, tmp_path):
    """2 kW of load behind 1.5 kW in two of three hours, 3 kW that must be taken in behind nothing at all: by the half, and what cannot be."""
    path = tmp_path / "breach.yaml"
    path.write_text(
        "kind: prosumers\nprices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}\n"
        "agents:\n  - {id: a, load_kw: [2, 2, 1], import_limit_kw: 1.5}\n  - {id: b, pv_kw: [1, 1, 1], export_limit_kw: 0}\n",
        encoding="utf-8",
    )
    code, out, _ = call("market", "clear", path)

    assert code == 0
    assert "envelope  a leaves its import limit in intervals 0–1, by 0.5 kW at most" in out
    assert "b leaves" not in out
    assert "no agent could gain more than" in out


def test_a_market_that_burns_nothing_says_what_that_costs(call, tmp_path):
    """Paid for taking, two batteries would burn energy in their losses; the text names what is forgone."""
    path = tmp_path / "burning.yaml"
    path.write_text(
        "kind: prosumers\nprices: {buy_eur_per_kwh: [-0.3, -0.3], sell_eur_per_kwh: -0.4}\n"
        "agents: [{id: a, stores: [{kind: battery, energy_kwh: 4, initial_kwh: 4, efficiency_charge: 0.8}]}, {id: b, load_kw: 1}]\n",
        encoding="utf-8",
    )
    code, out, err = call("market", "clear", path, "--tolerance", "1e-5")

    assert (code, err) == (0, "")
    assert "netting   stores do not charge and discharge at once" in out


def test_what_cannot_be_had_may_be_relaxed(cleared, tmp_path):
    """Then the others trade all the same, and the result says what is missing."""
    path = tmp_path / "car.yaml"
    path.write_text(CAR + "infeasible: relax\n", encoding="utf-8")
    result = cleared(path, "--divide", "nash", "--verify", "central")

    assert len(result["relaxed"]) == 1
    assert "agent 'a', store 0" in result["relaxed"][0]
    assert result["agents"][0]["stores"][0]["energy_kwh"] == pytest.approx([0.0, 3.0, 6.0], abs=1e-6)
    assert result["traded_kwh"] == pytest.approx([2.0, 2.0], abs=1e-3)
    assert result["verification"]["agrees"] is True


def test_a_pool_that_cannot_balance_is_infeasible(call):
    """Exit code 3, with the interval and the side; the other intervals are cleared, and no bound is claimed."""
    result, said = failed(
        call, EXAMPLES / "two_agents.yaml", "--mechanism", "pool", "--set", "agents.G.p_min=[40, 0]", "--divide", "nash"
    )

    assert said == [
        "interval 0: the agents must bring at least 10 kW together, and nobody is there for it. Widen p_min or p_max."
    ]
    assert result["price_eur_per_kwh"] == [None, pytest.approx(6.0)]
    assert (result["certificate"]["bound_eur"], result["division"]) == (None, None)
    assert result["traded_kwh"] == pytest.approx([30.0, 2.0])
    assert of(result, "gain_eur") == of(result, "deviation_gain_eur") == [None, None]


def test_a_pair_that_cannot_agree_is_infeasible(call):
    """Exit code 3: the producer must bring more than the pair may trade; what may be traded is."""
    result, said = failed(
        call, EXAMPLES / "two_agents.yaml", "--set", "agents.G.p_min=1", "--set", "trades.limit_kw=0.5"
    )

    assert "must bring 0.5 kW that no partner takes" in said[0]
    assert result["trades"][0]["power_kw"] == pytest.approx([-0.5], abs=1e-6)


def test_a_market_without_any_plan_is_a_result_too(call, monkeypatch):
    """Where a shared storage cannot do what is asked of it there are no figures, and the reasons."""
    from market.exchange import Infeasible
    from sim import clear_exchange

    def hopeless(*_, **__):
        raise Infeasible("no plan exists:\n  shared store 0 is out of reach.")

    monkeypatch.setattr(clear_exchange, "clear", hopeless)
    result, said = failed(call, EXAMPLES / "shared_storage.yaml")
    code, out, _ = call("market", "clear", EXAMPLES / "shared_storage.yaml")

    assert MarketResult.model_validate(result).model_dump(mode="json") == result
    assert said == ["no plan exists:", "shared store 0 is out of reach."]
    assert (code, out) == (3, "two prosumers and a shared storage: exchange, infeasible\n")


def test_not_converging_ends_with_one(cleared, monkeypatch):
    """The result is printed all the same, and says so."""
    from sim import clear_exchange

    monkeypatch.setattr(clear_exchange, "MOST", 20)
    result = cleared(EXAMPLES / "shared_storage.yaml", code=1)

    assert result["status"] == "not_converged"
    assert result["certificate"]["converged"] is False
    assert result["certificate"]["bound_eur"] <= 0.35 <= result["cost_eur"]


def test_a_verification_that_disagrees_ends_with_one(cleared, monkeypatch):
    """A bound that the solver's own optimum is below, by a hundredth of a cent, is found out."""
    from market.central import CentralProblem

    rents = CentralProblem.rents_eur
    monkeypatch.setattr(CentralProblem, "rents_eur", lambda self: rents(self) - 2e-4)
    result = cleared(EXAMPLES / "shared_storage.yaml", "--verify", "central", code=1)

    assert result["verification"]["agrees"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mechanism", "exchage"), '"exchage" is no mechanism for prosumers; did you mean "exchange"?'),
        (("--divide", "shapely"), '--divide: "shapely" is no rule; did you mean "shapley"?'),
        (("--mechanism", "vcg", "--divide", "nash"), "--divide needs the optimum of all; vcg does not look for it."),
        (("--mechanism", "vcg", "--verify", "central"), "--verify needs the optimum of all; vcg does not look for it."),
        (("--tolerance", "0"), "--tolerance is 0.0; give a number between 0 and 1"),
        (("--tolerance", "nan"), "--tolerance is nan; give a number between 0 and 1"),
        (("--set", "storage.ess.power_kw=-1"), "must be at least 0; given -1"),
        (("--verify", "twice"), "See commonwatt --help."),
        (("--seed", "-1"), "See commonwatt --help."),
        (("--out", ""), "--out: is empty; give the name of a file for the result."),
        (("--out", "."), "--out: . is a folder; give the name of a file for the result."),
        (("--out", "nowhere/x.json"), "--out: nowhere/x.json: no such file or folder: nowhere. Make the folder first."),
    ],
)
def test_what_cannot_be_asked_is_bad_input(call, words, said):
    """Exit code 2 and a sentence, the nearest name where one is near."""
    code, out, err = call("market", "clear", EXAMPLES / "shared_storage.yaml", *words)

    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_pairs_need_a_graph(call):
    """Without trades there are no pairs."""
    said = call("market", "clear", EXAMPLES / "two_agents.yaml", "--mechanism", "bilateral", "--set", "trades=null")[2]

    assert 'bilateral needs "trades"' in said


STAR = """\
kind: curves
agents:
  - {id: g, a: 1, b: 4, p_min: 0, p_max: 60}
  - {id: c, a: 1, b: 8, p_min: -30, p_max: 0}
  - {id: d, a: 1, b: 8, p_min: -30, p_max: 0}
trades: {pairs: [{first: g, second: c}, {first: g, second: d}]}
"""


@pytest.mark.parametrize(
    ("sets", "rule", "gains"),
    [
        # alone with one of the two g makes 4, with both 16/3; without g nobody makes anything
        pytest.param((), "shapley", (28 / 9, 10 / 9, 10 / 9), id="shapley"),
        pytest.param((), "nash", (16 / 9, 16 / 9, 16 / 9), id="nash"),
        pytest.param((), "dual_prices", (32 / 9, 8 / 9, 8 / 9), id="dual prices: 20/3 for all"),
        pytest.param((), "proportional", (16 / 3 * 2 / 3, 16 / 18, 16 / 18), id="proportional to 16/3, 4/3, 4/3"),
        pytest.param((), "nucleolus", (4.0, 2 / 3, 2 / 3), id="nucleolus"),
        pytest.param((), "least_core", (4.0, 2 / 3, 2 / 3), id="least core"),
        pytest.param(("trades.pairs=[{first: g, second: c}]",), "shapley", (2.0, 2.0, 0.0), id="who has no partner adds nothing"),
        pytest.param(("trades.charge_eur_per_kwh=2",), "shapley", (0.0, 0.0, 0.0), id="what it costs to trade eats the gain"),
        pytest.param(("trades.charge_eur_per_kwh=1",), "shapley", (7 / 9, 5 / 18, 5 / 18), id="half the way: a quarter of the gain"),
    ],
)  # fmt: skip
def test_pairs_are_divided_by_the_markets_of_their_partners(cleared, tmp_path, sets, rule, gains):
    """By hand: who is missing from a coalition is missing from its graph.  Nobody loses and payments balance, to what values are exact to."""
    path = tmp_path / "star.yaml"
    path.write_text(STAR, encoding="utf-8")
    division = cleared(path, "--divide", rule, *(word for one in sets for word in ("--set", one)))["division"]

    assert [share["gain_eur"] for share in division["shares"]] == pytest.approx(gains, abs=1e-5)
    assert division["rational"] is division["balanced"] is True
    assert (division["excess_sampled"], division["accuracy_eur"] < 1e-5) == (False, True)
    if rule in ("dual_prices", "nucleolus", "least_core"):
        assert division["excess_eur"] <= 1e-5
    if rule == "nash" and not sets:
        assert division["excess_eur"] == pytest.approx(4.0 - 32 / 9, abs=1e-5)
        assert set(division["excess_coalition"]) in ({"g", "c"}, {"g", "d"})


def test_who_cannot_be_alone_cannot_be_divided_among(call):
    """A producer that must run has no cost alone without a retailer; with one it has."""
    must = ("--divide", "nash", "--set", "agents.G.p_min=1")
    code, _, err = call("market", "clear", EXAMPLES / "two_agents.yaml", *must)

    assert code == 2
    assert "--divide needs everyone's cost alone, and G must bring or take power" in err
    assert (
        call(
            "market",
            "clear",
            EXAMPLES / "two_agents.yaml",
            *must,
            "--set",
            "retail={buy_eur_per_kwh: 9, sell_eur_per_kwh: 1}",
        )[0]
        == 0
    )


def test_a_coalition_that_cannot_balance_stays_alone(cleared, tmp_path):
    """Two who must bring 1 kW each have no market of their own: their coalition is worth nothing, not what an unbalanced one would cost."""
    path = tmp_path / "must.yaml"
    path.write_text(
        "kind: curves\nretail: {buy_eur_per_kwh: 9, sell_eur_per_kwh: 1}\ntrades: {between: all}\nagents:\n"
        "  - {id: g, b: 2, p_min: 1, p_max: 2}\n  - {id: h, b: 2, p_min: 1, p_max: 2}\n  - {id: c, b: 8, p_min: -4, p_max: 0}\n",
        encoding="utf-8",
    )
    for mechanism in ("pool", "bilateral"):
        division = cleared(path, "--mechanism", mechanism, "--divide", "shapley")["division"]
        # alone each producer loses 1 at the retailer; c and one of them gain 2 * 6 + 1, all three 4 * 6 + 2, the two alone nothing
        assert [share["gain_eur"] for share in division["shares"]] == pytest.approx([13 / 2, 13 / 2, 13.0], abs=1e-5)


def test_a_new_england_of_pairs_is_divided_among_those_asked(cleared):
    """31 agents: coalitions are drawn, the result says so, and everything that is gained is given out."""
    division = cleared(EXAMPLES / "new_england.yaml", "--divide", "nash")["division"]

    assert division["excess_sampled"] is True
    assert sum(share["gain_eur"] for share in division["shares"]) == pytest.approx(92547.8749, abs=1e-2)
    assert division["rational"] is division["balanced"] is True


def test_a_pool_is_divided_too(cleared):
    """Two who need each other share by halves, whatever the rule; a coalition of 31 is sampled and says so."""
    for rule in ("dual_prices", "nash", "shapley", "nucleolus", "least_core", "proportional"):
        division = cleared(EXAMPLES / "two_agents.yaml", "--mechanism", "pool", "--divide", rule)["division"]
        assert [share["gain_eur"] for share in division["shares"]] == pytest.approx([2.0, 2.0], abs=1e-6)
        assert [share["payment_eur"] for share in division["shares"]] == pytest.approx([12.0, -12.0], abs=1e-6)

    many = cleared(EXAMPLES / "new_england.yaml", "--mechanism", "pool", "--divide", "nash")["division"]
    assert many["excess_sampled"] is True
    assert sum(share["gain_eur"] for share in many["shares"]) == pytest.approx(92547.8749, abs=1e-3)


def test_what_the_retailer_decides_is_not_traded_again(call, cleared):
    """Between 10 and 3 the two stand still, and nothing is left to trade: the result says so, and what they could gain together."""
    retail = ("--set", "retail={buy_eur_per_kwh: 10, sell_eur_per_kwh: 3}")
    result = cleared(EXAMPLES / "two_agents.yaml", "--mechanism", "mid_market_rate", *retail)
    traded = cleared(
        EXAMPLES / "two_agents.yaml", "--mechanism", "vcg", "--set", "retail={buy_eur_per_kwh: 7, sell_eur_per_kwh: 5}"
    )
    text = call("market", "clear", EXAMPLES / "two_agents.yaml", "--mechanism", "mid_market_rate", *retail)[1]

    assert result["status"] == "no_trade"
    assert "nothing is left to trade" in result["notes"][0]
    assert "and nothing more, is traded here" in traded["notes"][0]
    assert result["certificate"]["excess_eur"] == pytest.approx(4.0)
    assert "objection 4 eur: what everybody together would gain more than this way of trading gives them" in text
    assert "note      First everybody takes and brings what is best at the retailer's prices" in text
    assert "shared storages stand still" in cleared(EXAMPLES / "shared_storage.yaml", "--mechanism", "vcg")["notes"][-1]
    assert "nobody buys from the retailer" in cleared(EXAMPLES / "two_agents.yaml", *retail)["notes"][0]
    assert cleared(EXAMPLES / "two_agents.yaml", "--mechanism", "retailer", *retail)["notes"] == []


def test_a_price_rule_needs_a_retailer(call):
    """Curves without one have no prices to share by."""
    code, _, err = call("market", "clear", EXAMPLES / "two_agents.yaml", "--mechanism", "mid_market_rate")

    assert code == 2
    assert 'give "retail" with buy_eur_per_kwh and sell_eur_per_kwh' in err


def test_a_case_that_is_not_there_is_bad_input(call, tmp_path):
    """A wrong path, a folder."""
    assert call("market", "clear", tmp_path / "no.yaml")[0] == 2
    assert call("market", "clear", tmp_path)[0] == 2


def test_selling_above_buying_between_two_is_refused(call):
    """An agent that feeds in above what another pays would pass energy on without limit."""
    code, _, err = call(
        "market", "clear", EXAMPLES / "shared_storage.yaml",
        "--set", "agents.sun.sell_eur_per_kwh=0.5", "--set", "agents.sun.buy_eur_per_kwh=0.6",
    )  # fmt: skip

    assert code == 2
    assert "passing energy on would earn without limit" in err


def test_the_schemas_are_printed(call, tmp_path):
    """Of a case and of its result; both at once cannot be."""
    code, out, _ = call("schema", "--case")
    assert code == 0
    assert {ref["$ref"] for ref in json.loads(out)["oneOf"]} == {"#/$defs/CurvesCase", "#/$defs/ProsumersCase"}
    assert call("schema", "--result", "--out", tmp_path / "result.json")[0] == 0
    assert "certificate" in json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["properties"]
    assert call("schema", "--case", "--result")[0] == 2


def loaded(*words):
    """The heavy libraries that a command line loads, in a fresh process; and its exit code."""
    code = (
        "import sys; sys.argv = ['commonwatt', *sys.argv[1:]]; import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = ('cvxpy', 'duckdb', 'numba', 'numpy', 'pandapower', 'pandas', 'plotly', 'pyarrow', 'pyomo', 'scipy.optimize')\n"
        "print(code, *[name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    return done.stderr.split()


def test_help_is_light_and_a_clearing_loads_what_it_needs():
    """No `--help` of `market`, `network` and their commands loads a library; a pool needs arrays and no solver."""
    assert loaded("market", "--help") == ["0"]
    assert loaded("market", "clear", "--help") == ["0"]
    for command in ("flow", "envelopes", "validate", "hosting", "messages"):
        assert loaded("network", command, "--help") == ["0"]
    assert loaded("market", "clear", EXAMPLES / "two_agents.yaml", "--mechanism", "pool", "--quiet") == ["0", "numpy"]


def test_every_option_and_choice_is_documented():
    """docs/command-line.md names every option of the command, docs/case.md every mechanism, and the rules are those there are."""
    import typer

    from market.bargaining import DIVISIONS
    from market.mechanisms import MECHANISMS

    page, case = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("command-line.md", "case.md"))
    command = typer.main.get_command(cli.app).commands["market"].commands["clear"]

    assert [
        o for one in command.params for o in one.opts if o.startswith("--") and o != "--help" and o not in page
    ] == []
    assert [name for names in clearing.MECHANISMS.values() for name in names if f"| `{name}` |" not in case] == []
    assert set(clearing.DIVISIONS) == set(DIVISIONS)
    assert set(clearing.RULES) == set(MECHANISMS) - {"exchange"}
    assert [rule for rule in clearing.DIVISIONS if rule not in page] == []
