"""A market's case is read whole or not at all, and every mistake in it is told with its place."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.case import CurvesCase, ProsumersCase, json_schema
from sim.case_arrays import curves_of, graph_of, problem_of
from sim.case_file import load
from sim.case_page import markdown
from sim.clear_result import json_schema as result_schema
from sim.scenario_file import ScenarioError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples" / "market").glob("*.yaml"))

HEAD = "kind: prosumers\nprices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "case.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes_of(folder: Path, text: str, sets: tuple[str, ...] = ()) -> list[str]:
    """The mistakes of a text, each without the folder in front of its file."""
    with pytest.raises(ScenarioError) as caught:
        load(written(folder, text), sets)
    return [mistake.replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def only_mistake(folder: Path, text: str, sets: tuple[str, ...] = ()) -> str:
    found = mistakes_of(folder, text, sets)

    assert len(found) == 1, found
    return found[0]


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            HEAD + "agents:\n  - {id: a, lod_kw: 1}\n",
            'case.yaml:4:13: "lod_kw" is not a key of agents.0; did you mean "load_kw"?',
            id="unknown key",
        ),
        pytest.param(
            HEAD + "agents: []\nstorrage: []\n",
            'case.yaml:4:1: "storrage" is not a key of a case; did you mean "storage"?',
            id="unknown section",
        ),
        pytest.param(
            "kind: prosumer\nprices: {buy_eur_per_kwh: 0.3, sell_eur_per_kwh: 0.08}\nagents: []\n",
            "case.yaml:1:7: kind: given 'prosumer'; must be curves or prosumers. Did you mean \"prosumers\"?",
            id="unknown kind",
        ),
        pytest.param("agents: []\n", "case.yaml:1:1: the case: needs kind: curves or prosumers.", id="no kind"),
        pytest.param(
            HEAD + "agents:\n  - {id: a, load_kw: [1, .nan]}\n",
            "case.yaml:4:26: agents.0.load_kw.1: must be a finite number; given nan.",
            id="not a number",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, pv_kw: .inf}\n",
            "case.yaml:4:20: agents.0.pv_kw: must be a finite number; given inf.",
            id="infinite",
        ),
        pytest.param(
            HEAD + f"agents:\n  - {{id: a, pv_kw: 1{'0' * 400}}}\n",
            "case.yaml:4:20: agents.0.pv_kw: must be a finite number; given inf.",
            id="too long for a number",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, load_kw: -1}\n",
            "case.yaml:4:22: agents.0.load_kw: must be at least 0; given -1. What is generated goes into pv_kw.",
            id="negative load",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, load_kw: true}\n",
            'case.yaml:4:22: agents.0.load_kw: must be a number, a list with one number per interval, or a section with "file" and '
            '"column"; given True.',
            id="truth as a load",
        ),
        pytest.param(
            HEAD + "agents: []\nstorage: [{energy_kwh: -2, power_kw: 1}]\n",
            "case.yaml:4:24: storage.0.energy_kwh: must be at least 0; given -2. It is a size: it has no direction, and 0 is nothing.",
            id="negative capacity",
        ),
        pytest.param(
            HEAD + f"agents: []\nstorage: [{{energy_kwh: -1{'0' * 400}, power_kw: 1}}]\n",
            f"case.yaml:4:24: storage.0.energy_kwh: must be at least 0; given -1{'0' * 55}.... It is a size: it has no direction, and 0 is nothing.",
            id="negative, and too long for a number",
        ),
        pytest.param(
            HEAD + "agents: [{id: a, flexible: [{power_kw: 2, needed_kwh: 1, needed_by_hours: .nan}]}]\n",
            "case.yaml:3:75: agents.0.flexible.0.needed_by_hours: must be a finite number; given nan.",
            id="needed by no hour",
        ),
        pytest.param(
            HEAD + "interval_minutes: 1e300\nagents: [{id: a, flexible: [{power_kw: 2, needed_kwh: 1, needed_by_hours: 2}]}]\n",
            "case.yaml:3:19: interval_minutes: must be at most 525600; given 1e+300.",
            id="an interval beyond any year, and a need by an hour",
        ),
        pytest.param(
            HEAD + "agents: []\nstorage: [{energy_kwh: .inf, power_kw: 1}]\n",
            "case.yaml:4:24: storage.0.energy_kwh: must be a finite number; given inf.",
            id="infinite capacity",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, load_kw: 1e300}\n",
            "case.yaml:4:22: agents.0.load_kw: must be at most 1e+09; given 1e+300. What is generated goes into pv_kw.",
            id="beyond any power",
        ),
        pytest.param(
            HEAD + "agents: []\nstorage: [{energy_kwh: 1}]\n",
            'case.yaml:4:11: storage.0: needs "power_kw".',
            id="capacity missing",
        ),
        pytest.param(
            "kind: prosumers\nprices: {buy_eur_per_kwh: [0.3, 0.1, 0.1], sell_eur_per_kwh: 0.2}\nagents: []\n",
            "case.yaml:2:62: prices.sell_eur_per_kwh: is above the purchase price in interval 1 and 1 more (0.2 against 0.1): buying and "
            "feeding in at once would earn without limit.",
            id="sell above buy",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, buy_eur_per_kwh: 0.05}\n",
            "case.yaml:4:30: agents.0.buy_eur_per_kwh: is above the purchase price in interval 0 (0.08 against 0.05): buying and feeding in "
            "at once would earn without limit.",
            id="sell above an agent's own buy",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a}\n  - {id: a}\n",
            'case.yaml:5:10: agents.1.id: "a" is the id of agents.0 already.',
            id="name twice",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: anna}\nstorage: [{energy_kwh: 1, power_kw: 1, tenants: [ana]}]\n",
            'case.yaml:5:50: storage.0.tenants.0: "ana" is not an agent of the case; did you mean "anna"?',
            id="unknown tenant",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, stores: [{kind: battery, energy_kwh: 5, initial_kwh: 6}]}\n",
            "case.yaml:4:66: agents.0.stores.0.initial_kwh: must not be above energy_kwh (5); given 6.",
            id="fuller than full",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, stores: [{kind: vehicle, energy_kwh: 50, initial_kwh: 45, needed_kwh: 6}]}\n",
            "case.yaml:4:83: agents.0.stores.0.needed_kwh: does not fit: 45 kWh at arrival and 6 kWh are more than the 50 kWh of the car.",
            id="car too small",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, stores: [{kind: vehicle, energy_kwh: 50, needed_kwh: 1, departure_hours: 3}]}\n",
            "case.yaml:4:86: agents.0.stores.0.departure_hours: is after the end, 1 h; given 3.",
            id="car leaves after the end",
        ),
        pytest.param(
            "kind: curves\nagents: [{id: a, b: 1, p_min: 2, p_max: 1}]\n",
            "case.yaml:2:31: agents.0.p_min: is above p_max in interval 0 (2 against 1): nothing is left between them.",
            id="bounds crossed",
        ),
        pytest.param(
            "kind: curves\nagents: [{id: c, a: -1, b: 1, p_min: -1, p_max: 1}]\n",
            "case.yaml:2:21: agents.0.a: must be at least 0; given -1. A marginal cost that falls has no market price.",
            id="marginal cost falls",
        ),
        pytest.param(
            "kind: curves\nagents: [{id: a, b: 1, p_min: 0, p_max: 1}]\ntrades: {pairs: [{first: a, second: b}]}\n",
            'case.yaml:3:37: trades.pairs.0.second: "b" is not an agent of the case; known are a.',
            id="pair with nobody",
        ),
        pytest.param(
            "kind: curves\nagents: [{id: a, b: 1, p_min: 0, p_max: 1}]\ntrades: {between: everybody}\n",
            "case.yaml:3:19: trades.between: must be 'all', 'consumers-producers' or 'pairs'; given 'everybody'.",
            id="unknown graph",
        ),
        pytest.param(
            "kind: curves\nagents: [{id: a, b: 1, p_min: 0, p_max: 1}]\ntrades: {pairs: [{first: a, second: a}]}\n",
            'case.yaml:3:37: trades.pairs.0.second: is "a" as well as the first: nobody trades with itself.',
            id="pair of one",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a, sell_eur_per_kwh: 0.5, buy_eur_per_kwh: 0.6}\n  - {id: b}\n",
            'case.yaml:4:31: agents.0.sell_eur_per_kwh: lets energy be passed on: in interval 0 "b" buys at 0.3, and "a" feeds in at 0.5, '
            "more than that and the exchange charge of 0 together; passing energy on would earn without limit.",
            id="sell above another agent's buy",
        ),
        pytest.param(
            HEAD + "agents:\n  - {id: a}\n  - {id: b, buy_eur_per_kwh: 0.05, sell_eur_per_kwh: 0.01}\n",
            'case.yaml:5:30: agents.1.buy_eur_per_kwh: lets energy be passed on: in interval 0 "b" buys at 0.05, and "a" feeds in at 0.08, '
            "more than that and the exchange charge of 0 together; passing energy on would earn without limit.",
            id="buy below another agent's sell",
        ),
        pytest.param(
            "kind: curves\nagents: [{id: a, b: 1, p_min: -1, p_max: 1}, {id: b, b: 2, p_min: -1, p_max: 1}]\n"
            "trades: {between: all, charge_eur_per_kwh: -1}\n",
            "case.yaml:3:44: trades.charge_eur_per_kwh: is -1 in interval 0, where either of two may sell to the other: trading to and fro "
            "would earn without limit. Give 0 or more, or let one of them only sell.",
            id="paid for trading to and fro",
        ),
        pytest.param(
            HEAD + "interval_minutes: 525600\nagents:\n  - {id: a, stores: [{kind: battery, energy_kwh: 5, self_discharge_per_h: 0.5}]}\n",
            "case.yaml:5:75: agents.0.stores.0.self_discharge_per_h: leaves nothing after an interval of 8760 h; given 0.5.",
            id="nothing is left of it",
        ),
        pytest.param(
            HEAD + "agents: []\nintervals: 0\n",
            "case.yaml:4:12: intervals: must be at least 1; given 0.",
            id="no interval",
        ),
        pytest.param("[1, 2]\n", 'case.yaml:1:1: a case is a mapping of sections such as "kind:" and "agents:"; this is a list.', id="list"),
        pytest.param("", "case.yaml:1:1: the file is empty. examples/market holds cases to start from.", id="empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path, text, expected):
    """File, line, column, what is wrong, and what to do."""
    assert only_mistake(tmp_path, text) == expected


ODD = ("null", ".nan", "-.inf", "[]", "{}", "-1", "1e400", "true", "'x'", "[1, 2]", "[[1]]", "2016-01-01", "12:30", "", "1e-320", "{file: 1, column: 2}", "{kind: vehicle}", "9" * 400, "&a [*a]")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(["street", "two_agents", "shared_storage"]), data=st.data())
def test_no_file_is_a_traceback(name, data):
    """Whatever stands in the place of any value: the case is read, or every mistake has a place and says what to do."""
    path = EXAMPLES[0].parent / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    values = list(re.finditer(r"(?<=: )[^\s,{}\[\]#]+", text))
    for _ in range(data.draw(st.integers(1, 3))):
        one = data.draw(st.sampled_from(values))
        text = text[: one.start()] + data.draw(st.sampled_from(ODD)) + text[one.end() :]
        values = list(re.finditer(r"(?<=: )[^\s,{}\[\]#]+", text))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "street.csv").write_text((path.parent / "street.csv").read_text("utf-8"), "utf-8")
        mistakes, case = (), None
        try:
            case = load(written(Path(folder), text))
        except ScenarioError as error:
            mistakes = error.mistakes
        assert (case is None) == bool(mistakes)
        assert [one for one in mistakes if not re.match(r"\S+case\.yaml(:\d+:\d+)?: .+[.?]$", one)] == []
        if case is not None:
            problem_of(case) if isinstance(case, ProsumersCase) else curves_of(case)


SECTIONS = ("kind", "prices", "agents", "agents.0", "agents.1.id", "agents.0.stores", "agents.0.stores.0", "agents.2.stores.0.kind", "agents.0.flexible",
            "agents.0.flexible.0", "storage", "storage.0", "storage.0.tenants", "storage.0.owner", "trades", "trades.between", "trades.pairs",
            "retail", "options", "name", "seed", "intervals")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["street", "two_agents", "shared_storage"]),
    sets=st.lists(st.tuples(st.sampled_from(SECTIONS), st.sampled_from(ODD)), min_size=1, max_size=3),
)
def test_no_section_is_a_traceback(name, sets):
    """Nor is anything in the place of a whole section."""
    with contextlib.suppress(ScenarioError):
        load(EXAMPLES[0].parent / f"{name}.yaml", [f"{path}={value}" for path, value in sets])


def test_all_mistakes_are_told_at_once(tmp_path):
    """In the order of the file, those of the command line at the end; none hides another."""
    text = (
        "kind: prosumers\n"
        "prices: {buy_eur_per_kwh: [0.2, 0.4, 0.3], sell_eur_per_kwh: cheap}\n"
        "agents:\n"
        "  - {id: a, load_kw: [0, 0], pv_kw: [4, .nan], looad: 3}\n"
        "  - {id: a, load_kw: [1, -3], stores: [{kind: battery, energy_kwh: -2}, {kind: car}]}\n"
        "storage: [{energy_kwh: .inf, power_kw: 2}]\n"
    )

    found = mistakes_of(tmp_path, text, ("agents.7.load_kw=1", "seed=-1"))

    assert [mistake.split(": ")[0] for mistake in found] == [
        "case.yaml:2:27", "case.yaml:2:62", "case.yaml:4:41", "case.yaml:4:48", "case.yaml:5:10", "case.yaml:5:26",
        "case.yaml:5:68", "case.yaml:5:73", "case.yaml:6:24", "--set agents.7.load_kw=1", "--set seed=-1",
    ]  # fmt: skip
    assert found[0].endswith("has 3 values; the case has 2 intervals, as most lists have.")


def test_contradictions_are_told_beside_mistakes_in_single_values(tmp_path):
    """Names that stand twice, unknown partners and crossed bounds, in the same go as a wrong number and an unknown key."""
    text = (
        "kind: curves\n"
        "agents:\n"
        "  - {id: a, b: 1, p_min: 2, p_max: 1, q: 3}\n"
        "  - {id: a, b: x, p_min: -1, p_max: 1}\n"
        "  - {id: b, b: 1, p_min: -1, p_max: 1}\n"
        "  - {id: c, b: 1, p_min: -1, p_max: 1}\n"
        "trades:\n"
        "  charge_eur_per_kwh: -0.5\n"
        "  pairs:\n"
        "    - {first: b, second: c, charge_first_eur_per_kwh: -1}\n"
        "    - {first: b, second: d}\n"
        "    - {first: c, second: b}\n"
    )

    assert [mistake.removeprefix("case.yaml:").split(": ")[:2] for mistake in mistakes_of(tmp_path, text)] == [
        ["3:26", "agents.0.p_min"], ["3:39", '"q" is not a key of agents.0; known are id, a, b, p_min, p_max.'],
        ["4:10", "agents.1.id"], ["4:16", "agents.1.b"], ["8:23", "trades.charge_eur_per_kwh"],
        ["10:55", "trades.pairs.0.charge_first_eur_per_kwh"], ["11:26", "trades.pairs.1.second"], ["12:7", "trades.pairs.2"],
    ]  # fmt: skip


def test_what_cannot_be_read_contradicts_nothing(tmp_path):
    """An agent whose name is wrong may be the one that a tenant, a pair or an owner means; a wrong number is in no comparison."""
    for text in (
        HEAD + "agents: [{id: 7}, {id: b}]\nstorage: [{energy_kwh: 1, power_kw: 1, tenants: [c]}]\n",
        HEAD + "agents: [{id: b, stores: [{kind: battery, energy_kwh: big, initial_kwh: 6}]}]\n",
        HEAD + "agents: [{id: b, sell_eur_per_kwh: high, buy_eur_per_kwh: 0.01}]\n",
        HEAD + "agents: [{id: b, stores: [{kind: vehicle, energy_kwh: 9, needed_kwh: 3, departure_hours: late}]}]\n",
        "kind: curves\nagents: [{id: 7, b: 1, p_min: 0, p_max: 1}]\ntrades: {pairs: [{first: a, second: b}]}\n",
        "kind: curves\nagents: [{id: a, b: 1, p_min: 0, p_max: 1}]\ntrades: {between: everybody, pairs: [{first: a, second: [a]}]}\n",
    ):
        found = mistakes_of(tmp_path, text)

        assert [one for one in found if "must be" not in one] == []


def test_what_only_the_market_can_know_has_a_place_too(tmp_path):
    """A penalty that is worth paying at these prices."""
    text = HEAD + "breach_penalty_eur_per_kwh: 0.01\nagents: [{id: a, load_kw: 1, export_limit_kw: 1}]\n"

    assert only_mistake(tmp_path, text).startswith(
        "case.yaml:3:29: breach_penalty_eur_per_kwh is 0.01, but at these prices"
    )


def test_lengths_are_those_of_intervals_where_it_is_given(tmp_path):
    """Without it most lists decide; whoever differs is told both lengths."""
    text = HEAD + "intervals: 3\nagents: [{id: a, load_kw: [1, 2]}]\n"

    assert only_mistake(tmp_path, text).endswith('has 2 values; the case has 3 intervals, as "intervals" says.')
    assert load(written(tmp_path, text.replace("3\n", "2\n"))).agents[0].pv_kw.tolist() == [0.0, 0.0]


def test_a_column_is_read_and_its_cells_are_told_by_line(tmp_path):
    """Semicolons or commas, a factor; what is no number is named by its line in the file."""
    (tmp_path / "day.csv").write_text("time;sun\n00:00;0\n\n01:00;2.5\n", encoding="utf-8")
    text = HEAD + "agents: [{id: a, pv_kw: {file: day.csv, column: sun, factor: 4}}]\n"

    assert load(written(tmp_path, text)).agents[0].pv_kw.tolist() == [0.0, 10.0]

    (tmp_path / "day.csv").write_text("time;sun\n00:00;0\n01:00;2,5\n02:00;\n03:00;nan\n", encoding="utf-8")
    assert mistakes_of(tmp_path, text) == [
        "case.yaml:3:25: agents.0.pv_kw: day.csv, line 3: must be a number with a decimal point; given '2,5'.",
        "case.yaml:3:25: agents.0.pv_kw: day.csv, line 4: must be a number with a decimal point; the cell is empty.",
    ]
    (tmp_path / "day.csv").write_text("time,sun\n00:00,0\n01:00,nan\n", encoding="utf-8")
    assert only_mistake(tmp_path, text).endswith("pv_kw: day.csv, line 3: must be a finite number; given nan.")
    (tmp_path / "day.csv").write_text("time,sun\n00:00,-1\n", encoding="utf-8")
    assert "day.csv, line 2: must be at least 0; given -4. What is consumed" in only_mistake(tmp_path, text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{file: day.csv, column: son}", '"son" is not a column of day.csv; did you mean "sun"?'),
        ("{file: dai.csv, column: sun}", "dai.csv cannot be read: No such file or directory; it is looked for at"),
        ("{file: day.csv, column: sun, faktor: 2}", 'is not a key here; did you mean "factor"?'),
        ("{file: day.csv}", 'needs "column"'),
        ("{file: day.csv, column: twice}", '"twice" stands in the first line of day.csv 2 times; remove all but one.'),
        ("{file: day.csv, column: sun, factor: .inf}", "must be a finite number; given inf"),
    ],
)
def test_a_column_that_is_not_there_is_told(tmp_path, value, expected):
    """The file, the column, the keys of the section."""
    (tmp_path / "day.csv").write_text("time,sun,twice,twice\n00:00,0,1,1\n", encoding="utf-8")

    assert expected in only_mistake(tmp_path, HEAD + f"agents: [{{id: a, pv_kw: {value}}}]\n")


def test_a_value_may_be_set_from_outside(tmp_path):
    """By path, by id, whole lists too; the place of a wrong one is the option."""
    text = HEAD + "agents: [{id: a, load_kw: 1}]\nstorage: [{id: ess, energy_kwh: 1, power_kw: 1}]\n"
    case = load(written(tmp_path, text), ("agents.a.load_kw=[1, 2]", "storage.ess.power_kw=3"), seed=5)

    assert isinstance(case, ProsumersCase)
    assert case.agents[0].load_kw.tolist() == [1.0, 2.0]
    assert (case.storage[0].power_kw, case.seed) == (3.0, 5)
    assert load(written(tmp_path, text), ("storage=[]",)).storage == ()
    assert only_mistake(tmp_path, text, ("storage.ess.power_kw=-3",)).startswith(
        "--set storage.ess.power_kw=-3: storage.0.power_kw: must be at least 0; given -3."
    )


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_a_car_charges_while_it_is_there(tmp_path):
    """In intervals that it shares with the street it may charge at the share of its power; full enough when it leaves."""
    text = HEAD + (
        "interval_minutes: 30\nintervals: 6\nagents:\n  - id: a\n    stores:\n"
        "      - {kind: vehicle, energy_kwh: 50, charge_kw: 8, arrival_hours: 0.75, departure_hours: 2.25, initial_kwh: 20, needed_kwh: 6}\n"
    )
    problem = problem_of(load(written(tmp_path, text)))

    assert problem.dt_h == 0.5
    assert problem.store_charge_max_kw[0, 0].tolist() == [0.0, 4.0, 8.0, 8.0, 4.0, 0.0]
    assert problem.store_discharge_max_kw.max() == 0.0
    assert problem.store_energy_min_kwh[0, 0].tolist() == [0.0, 0.0, 0.0, 0.0, 26.0, 26.0]
    assert problem.store_initial_kwh[0, 0] == 20.0


def test_stores_keep_what_they_had(tmp_path):
    """A battery ends as full as it began, unless the case says otherwise; losses are per hour, demand is per interval."""
    text = HEAD + (
        "interval_minutes: 120\nintervals: 2\nagents:\n  - id: a\n    stores:\n"
        "      - {kind: battery, energy_kwh: 10, initial_kwh: 4, self_discharge_per_h: 0.1}\n"
        "      - {kind: buffer, energy_kwh: 5, power_kw: 2, demand_kw: [1, 0.5], final_kwh: 1}\n  - id: b\n"
    )
    problem = problem_of(load(written(tmp_path, text)))

    assert problem.store_charge_max_kw[:, 0, 0].tolist() == [5.0, 2.0]
    assert problem.store_discharge_max_kw[:, 0, 0].tolist() == [5.0, 0.0]
    assert problem.store_energy_min_kwh[:, 0].tolist() == [[0.0, 4.0], [0.0, 1.0]]
    assert problem.store_drain_kwh[1, 0].tolist() == [2.0, 1.0]
    np.testing.assert_allclose(problem.store_retention[:, 0], [0.81, 1.0])
    assert problem.store_energy_max_kwh[:, 1].max() == 0.0  # b has none


def test_a_shared_storage_has_its_envelope_and_its_tenants(tmp_path):
    """The import limit bounds its net charge from above, the export limit from below; who is no tenant has no access."""
    text = HEAD + (
        "agents: [{id: a}, {id: b}]\n"
        "storage: [{energy_kwh: 4, power_kw: 2, import_limit_kw: 1.5, tenants: [b], self_discharge_per_h: 0.1, mode: netted, available: 0.5}]\n"
    )
    problem = problem_of(load(written(tmp_path, text)))

    assert problem.access.tolist() == [[False, True]]
    assert (problem.ess_net_max_kw.tolist(), problem.ess_net_min_kw.tolist()) == ([[1.5]], [[-np.inf]])
    assert (problem.ess_netted.tolist(), problem.ess_available.tolist()) == ([True], [[0.5]])
    np.testing.assert_allclose(problem.ess_retention, [0.9])


GRAPH = """\
kind: curves
agents:
  - {id: c, b: 8, p_min: -3, p_max: 0}
  - {id: g, b: 4, p_min: 0, p_max: [6, 5]}
  - {id: both, b: 5, p_min: -1, p_max: 1}
trades: {between: BETWEEN, charge_eur_per_kwh: 0.5, limit_kw: [2, 1]}
"""


def test_who_may_trade_with_whom(tmp_path):
    """Everybody, or consumers with producers: who may do both is on both sides, and no pair comes twice."""
    pairs = {}
    for between in ("all", "consumers-producers"):
        case = load(written(tmp_path, GRAPH.replace("BETWEEN", between)))
        assert isinstance(case, CurvesCase)
        graph = graph_of(case, case.trades)
        pairs[between] = {frozenset(ends) for ends in zip(graph.first.tolist(), graph.second.tolist(), strict=True)}
        assert len(graph.first) == len(pairs[between])
        assert graph.limit_kw.tolist() == [[2.0, 1.0]] * len(graph.first)

    assert pairs["all"] == pairs["consumers-producers"] == {frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})}
    assert curves_of(case).p_max_kw.tolist() == [[0.0, 0.0], [6.0, 5.0], [1.0, 1.0]]


def test_a_listed_pair_may_have_charges_of_its_own(tmp_path):
    """What a pair does not say is that of all trades."""
    pairs = "pairs, pairs: [{first: c, second: g, charge_second_eur_per_kwh: 2}, {first: c, second: both, limit_kw: 9}]"
    case = load(written(tmp_path, GRAPH.replace("BETWEEN", pairs)))
    assert isinstance(case, CurvesCase)
    graph = graph_of(case, case.trades)

    assert (graph.first.tolist(), graph.second.tolist()) == ([0, 0], [1, 2])
    assert graph.charge_first_eur_per_kwh.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert graph.charge_second_eur_per_kwh.tolist() == [[2.0, 2.0], [0.5, 0.5]]
    assert graph.limit_kw.tolist() == [[2.0, 1.0], [9.0, 9.0]]


# -- schema and documents ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_without_mistakes(path):
    """And says in its first line what it is, and where it comes from."""
    text = path.read_text(encoding="utf-8")

    assert load(path).agents
    assert text.startswith("# ")
    assert "Source: " in text or "made up" in text


def test_there_are_the_examples_that_are_promised():
    """The hand-made ones, the known one, and a street."""
    assert {path.stem for path in EXAMPLES} == {"two_agents", "new_england", "shared_storage", "street"}


@pytest.mark.parametrize("schema", [json_schema(), result_schema()], ids=["case", "result"])
def test_a_schema_describes_every_key_with_its_unit(schema):
    """No key without a sentence, no unknown keys; it is JSON."""
    from sim.scenario_mistakes import unit

    assert json.loads(json.dumps(schema)) == schema
    sections = [*schema["$defs"].values(), *([schema] if "properties" in schema else [])]
    described = {section["title"] for section in sections if section.get("description")}
    for section in sections:
        assert section["additionalProperties"] is False
        for key, spec in section["properties"].items():
            inner = [str(one.get("$ref", "")).rsplit("/", 1)[-1] for one in (spec, *spec.get("anyOf", ()))]
            assert spec.get("description") or described & set(inner), f"{section['title']}.{key}"
            assert not unit(key) or spec["unit"] == unit(key)


def test_the_page_of_the_case_is_up_to_date():
    """docs/case.md is what `python -m sim.case_page` prints, and names every key."""
    page = markdown()

    assert (ROOT / "docs" / "case.md").read_text(encoding="utf-8") == page
    for schema in (json_schema(), result_schema()):
        for section in schema["$defs"].values():
            for key in section["properties"]:
                assert f"| `{key}` |" in page
