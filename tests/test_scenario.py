"""A scenario is read whole or not at all, and every mistake in it is told with its place."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from network.feeder import Feeder, Transformer
from sim.check import check
from sim.resolve import _busbar, resolve
from sim.resolve_data import times_of
from sim.scenario import Scenario, ScenarioError, demo_path, dump, json_schema, load, template
from sim.scenario_mistakes import unit
from sim.scenario_page import markdown

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*.yaml") if path.parent.name not in {"market", "network"})


def written(folder: Path, text: str) -> Path:
    path = folder / "village.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes_of(folder: Path, text: str, sets: tuple[str, ...] = ()) -> list[str]:
    """The mistakes of a text, each without the folder in front of its file."""
    with pytest.raises(ScenarioError) as caught:
        load(written(folder, text), sets)
    return [mistake.replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def only_mistake(folder: Path, text: str) -> str:
    found = mistakes_of(folder, text)

    assert len(found) == 1, found
    return found[0]


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "time:\n  dais: 3\n",
            'village.yaml:2:3: "dais" is not a key of time; did you mean "days"?',
            id="unknown key",
        ),
        pytest.param(
            "people:\n  rules:\n    - {give: solar, share: 0.5, kw_peek: 5}\n",
            'village.yaml:3:33: "kw_peek" is not a key of people.rules.0; did you mean "kw_peak"?',
            id="unknown key in a rule",
        ),
        pytest.param("seed: many\n", "village.yaml:1:7: seed: must be a whole number; given 'many'.", id="wrong type"),
        pytest.param("seed: 1.5\n", "village.yaml:1:7: seed: must be a whole number; given 1.5.", id="fraction"),
        pytest.param(
            "seed: true\n", "village.yaml:1:7: seed: must be a whole number; given True.", id="bool as number"
        ),
        pytest.param(
            'grid: {v_max_pu: "1.1"}\n',
            "village.yaml:1:18: grid.v_max_pu: must be a number, without quotes and with a decimal point; given '1.1'.",
            id="number in quotes",
        ),
        pytest.param(
            "grid: {v_max_pu: 1,1}\n",
            'village.yaml:1:20: "1" is not a key of grid; known are source, v_min_pu, v_max_pu, loading_max_percent.',
            id="decimal comma",
        ),
        pytest.param(
            "grid:\n  v_max_pu: 110\n",
            "village.yaml:2:13: grid.v_max_pu: must be at most 1.5; given 110. 1 is the nominal voltage.",
            id="percent for per unit",
        ),
        pytest.param(
            "storage:\n  - {energy_kwh: -5}\n",
            "village.yaml:2:18: storage.0.energy_kwh: must be at least 0; given -5.",
            id="negative capacity",
        ),
        pytest.param(
            "storage:\n  - {energy_kwh: 150_000_000}\n",
            "village.yaml:2:18: storage.0.energy_kwh: must be at most 1e+06; given 1.5e+08. Energies are in kWh, not in Wh.",
            id="watt-hours",
        ),
        pytest.param(
            "people: {homes: [{id: a, bus: b, solar: {kw_peak: 9600}}]}\n",
            "village.yaml:1:51: people.homes.0.solar.kw_peak: must be at most 1000; given 9600. Powers are in kW, not in W.",
            id="watts",
        ),
        pytest.param(
            "storage: [{efficiency_charge: 95}]\n",
            "village.yaml:1:31: storage.0.efficiency_charge: must be at most 1; given 95. It is a fraction of 1, not a percentage.",
            id="percent for a fraction",
        ),
        pytest.param(
            "storage: [{charge_kw: .nan}]\n",
            "village.yaml:1:23: storage.0.charge_kw: must be a finite number; given nan.",
            id="not a number",
        ),
        pytest.param(
            "storage: [{charge_kw: .inf}]\n",
            "village.yaml:1:23: storage.0.charge_kw: must be a finite number; given inf.",
            id="infinite",
        ),
        pytest.param(
            "time:\n  delivery_day_start: 12:00\n",
            'village.yaml:2:23: time.delivery_day_start: is not in quotes: write "12:00", for some YAML readers turn such a '
            "value into a number.",
            id="unquoted clock time",
        ),
        pytest.param(
            "%YAML 1.1\n---\nmarket:\n  gate: 11:30\n",
            'village.yaml:4:9: market.gate: is not in quotes: write "11:30", for some YAML readers turn such a value into a '
            "number.",
            id="sexagesimal number",
        ),
        pytest.param(
            "market: {gate: 660}\n",
            'village.yaml:1:16: market.gate: must be a clock time in quotes, such as "22:00"; given 660, which is not a text.',
            id="whole number for a clock time",
        ),
        pytest.param(
            'market: {gate: "25:00"}\n',
            "village.yaml:1:16: market.gate: must be a clock time such as \"22:00\"; given '25:00'.",
            id="no such clock time",
        ),
        pytest.param(
            "time: {start: 2016-07-18T12:00}\n",
            'village.yaml:1:15: time.start: is not in quotes: write "2016-07-18T12:00", for some YAML readers turn such a value '
            "into a number.",
            id="unquoted date",
        ),
        pytest.param(
            'time: {start: "2016-02-30T12:00"}\n',
            "village.yaml:1:15: time.start: is not in the calendar: day is out of range for month; given '2016-02-30T12:00'.",
            id="no such day",
        ),
        pytest.param(
            "time: {time_zone: Europe/Berlim}\n",
            'village.yaml:1:19: time.time_zone: "Europe/Berlim" is not a known time zone; did you mean "Europe/Berlin"?',
            id="unknown time zone",
        ),
        pytest.param(
            'time: {start: "2016-03-27T02:30"}\n',
            "village.yaml:1:15: time.start: 2016-03-27T02:30 does not exist in Europe/Berlin: clocks go forward then; choose "
            "another time.",
            id="start in the gap",
        ),
        pytest.param(
            'time: {start: "2016-03-25T02:30", days: 4}\n',
            "village.yaml:1:7: time.delivery_day_start: 2016-03-27T02:30 does not exist in Europe/Berlin: clocks go forward "
            "then; choose another time.",
            id="a day of the run begins in the gap",
        ),
        pytest.param(
            "time: {interval_minutes: 25}\n",
            "village.yaml:1:26: time.interval_minutes: must divide an hour; given 25, the nearest that does is 20.",
            id="interval that does not divide the hour",
        ),
        pytest.param(
            'time: {start: "2016-07-18T12:10"}\n',
            "village.yaml:1:15: time.start: must lie on the grid of 15 minutes; given '2016-07-18T12:10'.",
            id="start off the grid",
        ),
        pytest.param(
            "time: {time_zone: Europe}\n",
            'village.yaml:1:19: time.time_zone: "Europe" is not a known time zone; a time zone is named by continent and city, '
            "such as Europe/Berlin.",
            id="a continent is no time zone",
        ),
        pytest.param(
            "time: {time_zone: berlin}\n",
            'village.yaml:1:19: time.time_zone: "berlin" is not a known time zone; did you mean "Europe/Berlin"?',
            id="a city is no time zone",
        ),
        pytest.param(
            'time: {start: "2024-04-07T00:00", interval_minutes: 60, time_zone: Australia/Lord_Howe}\n',
            "village.yaml:1:53: time.interval_minutes: the delivery day that begins at 2024-04-07T00:00 in Australia/Lord_Howe "
            "has 24.5 hours, for clocks move in it; intervals of 60 minutes do not divide it: choose 30 minutes.",
            id="clocks that move by half an hour",
        ),
        pytest.param(
            'time: {start: "9999-12-31T00:00"}\n',
            "village.yaml:1:15: time.start: must lie between 1970 and 2200; given '9999-12-31T00:00'.",
            id="the last day of the calendar",
        ),
        pytest.param(
            'time: {start: "0001-01-01T00:00"}\n',
            "village.yaml:1:15: time.start: must lie between 1970 and 2200; given '0001-01-01T00:00'.",
            id="the first day of the calendar",
        ),
        pytest.param(
            'time: {start: "1500-06-01T00:00"}\n',
            "village.yaml:1:15: time.start: must lie between 1970 and 2200; given '1500-06-01T00:00'.",
            id="before time zones",
        ),
        pytest.param(
            'time: {start: "2200-12-31T00:00", days: 3}\n',
            "village.yaml:1:41: time.days: the run would end on 2201-01-03; it must lie between 1970 and 2200.",
            id="a run that leaves the calendar",
        ),
        pytest.param(
            'time: {start: "2016-03-27T02:30", interval_minutes: 60}\n',
            "village.yaml:1:15: time.start: 2016-03-27T02:30 does not exist in Europe/Berlin: clocks go forward then; choose "
            "another time.",
            id="start in the gap and off the grid",
        ),
        pytest.param(
            'time: {start: "2016-07-18T12:00", delivery_day_start: "00:10"}\n',
            "village.yaml:1:55: time.delivery_day_start: must lie on the grid of 15 minutes; given '00:10'.",
            id="delivery day off the grid",
        ),
        pytest.param(
            'time: {start: "2016-07-18T12:00", interval_minutes: 60}\ntariffs: {t: {energy_eur_per_kwh: {periods: [{from: "00:00", '
            'to: "24:00", price_eur_per_kwh: 0.2}]}, network_eur_per_kwh: {periods: [{from: "00:00", to: "06:30", '
            'price_eur_per_kwh: 0.1}, {from: "06:30", to: "24:00", price_eur_per_kwh: 0.2}]}}}\n',
            'village.yaml:2:154: tariffs.t.network_eur_per_kwh.periods.0.to: must lie on the grid of 60 minutes; given "06:30". An '
            "interval has one price: move the edge, or shorten time.interval_minutes to 30.",
            id="an edge of a tariff inside an interval",
        ),
        pytest.param(
            "tariffs: {t: {energy_eur_per_kwh: {series: emission_factor}}}\n",
            'village.yaml:1:44: tariffs.t.energy_eur_per_kwh.series: series "emission_factor" is in kg/kWh; a price is needed, in '
            "eur/kWh.",
            id="emissions as a price",
        ),
        pytest.param(
            "tariffs: {t: {feed_in_eur_per_kwh: {series: em}}}\nseries: {em: {from: table, file: em.csv, unit: g_per_kwh}}\n",
            'village.yaml:1:45: tariffs.t.feed_in_eur_per_kwh.series: series "em" is in kg/kWh; a price is needed, in eur/kWh.',
            id="emissions of a table as a price",
        ),
        pytest.param(
            "series: {emission_factor: {from: table, file: em.csv, unit: ct_per_kwh}}\n",
            "village.yaml:1:27: series.emission_factor: is in eur/kWh, but under this name kg/kWh are expected; give such a unit, "
            "or another name.",
            id="a price as emissions",
        ),
        pytest.param("time: {days: 0}\n", "village.yaml:1:14: time.days: must be at least 1; given 0.", id="no day"),
        pytest.param(
            "storage: [{id: a}, {id: b}]\n",
            "village.yaml:1:10: storage: there can be one shared storage or none; 2 are given. Keep one, or add their sizes up.",
            id="two storages",
        ),
        pytest.param(
            "market: {replanning: tradeable}\n",
            "village.yaml:1:22: market.replanning: must be 'tradable', 'pinned' or 'off'; given 'tradeable'. Did you mean "
            '"tradable"?',
            id="no such choice",
        ),
        pytest.param(
            "people: {rules: [{give: sun, count: 3}]}\n",
            "village.yaml:1:18: people.rules.0: give must be 'solar', 'battery', 'ev', 'heat_pump', 'tariff'; given 'sun'.",
            id="no such gift",
        ),
        pytest.param(
            "people: {rules: [{count: 3}]}\n", 'village.yaml:1:18: people.rules.0: needs "give".', id="gift missing"
        ),
        pytest.param(
            "people: {rules: [{give: ev, count: 3, share: 0.5}]}\n",
            'village.yaml:1:18: people.rules.0: needs exactly one of "share", "count" and "homes"; share and count given.',
            id="said twice",
        ),
        pytest.param(
            "people: {rules: [{give: solar, count: 3, kw_peak: [9, 6]}]}\n",
            "village.yaml:1:51: people.rules.0.kw_peak: must be [lowest, highest]; given [9, 6].",
            id="range upside down",
        ),
        pytest.param(
            "people: {homes: [{id: a}]}\n", 'village.yaml:1:18: people.homes.0: needs "bus".', id="missing key"
        ),
        pytest.param(
            "people:\n  homes:\n    - {id: a, bus: x}\n    - {id: a, bus: y}\n",
            'village.yaml:4:12: people.homes.1.id: "a" is the id of homes.0 already.',
            id="duplicate homes",
        ),
        pytest.param(
            "people: {from: list}\n",
            'village.yaml:1:16: people.from: is "list", but there are no "homes": a run needs at least one home.',
            id="no home",
        ),
        pytest.param(
            "people: {homes: []}\n",
            "village.yaml:1:17: people.homes: is empty: a run needs at least one home; leave the key out to take the homes of the "
            "grid.",
            id="an empty list of homes",
        ),
        pytest.param(
            "people: {homes: [{id: dso, bus: x}]}\n",
            'village.yaml:1:23: people.homes.0.id: "dso" is the name of an account of its own; choose another.',
            id="reserved id",
        ),
        pytest.param(
            "people: {homes: [{id: a, bus: x, tariff: flat}]}\n",
            'village.yaml:1:42: people.homes.0.tariff: "flat" is not a tariff of the scenario; known are dynamic.',
            id="unknown tariff",
        ),
        pytest.param(
            "tariffs: {flat: {energy_eur_per_kwh: {series: sopt}}}\n",
            'village.yaml:1:47: tariffs.flat.energy_eur_per_kwh.series: "sopt" is not a series of the scenario; did you mean '
            '"spot"?',
            id="unknown series",
        ),
        pytest.param(
            "tariffs: {flat: {energy_eur_per_kwh: 16}}\n",
            "village.yaml:1:38: tariffs.flat.energy_eur_per_kwh: of 16 eur per kWh cannot be meant; prices are in eur per kWh, "
            "not in cents or per MWh.",
            id="cents",
        ),
        pytest.param(
            "tariffs: {flat: {vat_percent: 0.19}}\n",
            "village.yaml:1:31: tariffs.flat.vat_percent: is a percentage: 0.19 would be less than one per cent; write 19.",
            id="fraction for percent",
        ),
        pytest.param(
            'tariffs: {t: {energy_eur_per_kwh: {periods: [{from: "06:00", to: "22:00", price_eur_per_kwh: 0.2}]}}}\n',
            "village.yaml:1:45: tariffs.t.energy_eur_per_kwh.periods: no period covers 00:00 on a weekday. Fill the day.",
            id="periods with a gap",
        ),
        pytest.param(
            "tariffs: {t: {energy_eur_per_kwh: {periods: [{from: 06:00, to: 1320, price_eur_per_kwh: 0.2}]}}}\n",
            'village.yaml:1:53: tariffs.t.energy_eur_per_kwh.periods.0.from: is not in quotes: write "06:00", for some YAML '
            "readers turn such a value into a number.",
            id="unquoted period",
        ),
        pytest.param(
            "tariffs: {}\n", "village.yaml:1:10: tariffs: must have at least 1 entry; 0 are given.", id="no tariff"
        ),
        pytest.param(
            'dso: {publish: "11:00"}\n',
            'village.yaml:1:16: dso.publish: must come before the gate ("11:00"), which is the last before delivery begins '
            '("12:00"); given "11:00".',
            id="published at the gate",
        ),
        pytest.param(
            "aggregators: [{id: a, share: 0.7}, {id: b, share: 0.7}]\n",
            "village.yaml:1:14: aggregators: take 1.4 of all homes together; at most 1 is there.",
            id="more members than homes",
        ),
        pytest.param(
            "aggregators: [{id: ess}]\nstorage: [{}]\n",
            'village.yaml:2:11: storage.0.id: "ess" is already the id of an aggregator; ids of homes, aggregators and storages '
            "differ.",
            id="one id for two",
        ),
        pytest.param(
            "settlement: {keys: {a: 0.5, b: 0.4}, rule: alloc.static}\n",
            "village.yaml:1:20: settlement.keys: must add up to 1; they add up to 0.9.",
            id="keys",
        ),
        pytest.param(
            "storage: [{energy_kwh: 10, initial_kwh: 12}]\n",
            "village.yaml:1:41: storage.0.initial_kwh: must not be above energy_kwh (10); given 12.",
            id="fuller than full",
        ),
        pytest.param(
            "name: a\nname: b\n",
            'village.yaml:2:1: the key "name" stands here a second time; the first is at village.yaml:1:1.',
            id="duplicate key",
        ),
        pytest.param(
            "", "village.yaml:1:1: the file is empty. `commonwatt init` writes a scenario to start from.", id="empty"
        ),
        pytest.param(
            "# nothing\n",
            "village.yaml:1:1: the file is empty. `commonwatt init` writes a scenario to start from.",
            id="only a comment",
        ),
        pytest.param(
            "- a\n- b\n",
            'village.yaml:1:1: a scenario is a mapping of sections such as "time:" and "grid:"; this is a list.',
            id="a list",
        ),
        pytest.param(
            "time:\n\tdays: 2\n", "village.yaml:2:1: a tab indents this line; YAML allows spaces only.", id="tab"
        ),
        pytest.param(
            "dso: 5\n", "village.yaml:1:6: dso: must be a section with keys and values; given 5.", id="no section"
        ),
        pytest.param(
            "time: {days: !days 3}\n",
            "village.yaml:1:14: the tag !days is not known here; write the plain value.",
            id="unknown tag",
        ),
        pytest.param(
            "tariffs: {t: {network_eur_per_kwh: cheap}}\n",
            'village.yaml:1:36: tariffs.t.network_eur_per_kwh: must be a number, or a section with "series" or "periods"; given '
            "'cheap'.",
            id="no price",
        ),
        pytest.param(
            "series: {spot: {from: csv}}\n",
            "village.yaml:1:16: series.spot: from must be 'synthetic_price', 'synthetic_emission_factor', 'table'; given 'csv'.",
            id="no such series",
        ),
        pytest.param(
            "people: {rules: [{give: solar, count: 5, kw_peak: six}]}\n",
            "village.yaml:1:51: people.rules.0.kw_peak: must be a number or [lowest, highest]; given 'six'.",
            id="no range",
        ),
        pytest.param(
            "name: null\n", "village.yaml:1:7: name: must be a text; put it in quotes; given nothing.", id="null"
        ),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(tmp_path, text, expected):
    """File, line, column, key, what is wrong, what was given, what to do."""
    found = mistakes_of(tmp_path, text)

    assert expected in found


@pytest.mark.parametrize(
    "text",
    [
        'time: {start: "2016-07-18T12:07"}\n',
        'time: {start: "2016-03-27T02:30", interval_minutes: 60}\n',
        'time: {start: "2016-03-27T02:30", days: 800}\n',
        'time: {start: "0001-01-01T00:00"}\n',
        'time: {start: "9999-12-31T00:00", days: 3660}\n',
        "time: {time_zone: Europe, interval_minutes: 60}\n",
        (
            'time: {interval_minutes: 60}\ntariffs: {t: {energy_eur_per_kwh: {periods: [{from: "06:30", to: "22:00", '
            'price_eur_per_kwh: 0.1}, {from: "22:00", to: "06:30", price_eur_per_kwh: 0.2}]}}}\n'
        ),
    ],
)
def test_one_slip_is_one_sentence(tmp_path, text):
    """What follows from a mistake, and defaults that nobody wrote, are not told besides it."""
    only_mistake(tmp_path, text)


def test_an_assignment_that_is_wrong_is_told_with_its_own_words(tmp_path):
    """No home on the command line: the file has nothing to do with it."""
    (found,) = mistakes_of(tmp_path, "people: {homes: [{id: a, bus: b}]}\n", ("people.homes=[]",))

    assert found.startswith("--set people.homes=[]: people.homes: is empty: a run needs at least one home")


@pytest.mark.parametrize(("minutes", "intervals"), [(30, 49), (15, 98)])
def test_a_day_of_half_hours_is_a_day(tmp_path, minutes, intervals):
    """Where intervals divide the day on which clocks move by half an hour, all of it is simulated."""
    text = f'time: {{start: "2024-04-07T00:00", interval_minutes: {minutes}, time_zone: Australia/Lord_Howe}}\n'

    assert times_of(load(written(tmp_path, text))).size == intervals


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path):
    """Somebody with five mistakes learns of five, not of one five times."""
    found = mistakes_of(
        tmp_path,
        "seed: -1\ntime:\n  days: 0\n  start: 2016-07-18\n  dais: 3\nstorage: [{charge_kw: -1, id: 5}]\nseed: 2\n",
    )

    assert [mistake.split(" ")[0] for mistake in found] == [
        "village.yaml:1:7:",
        "village.yaml:3:9:",
        "village.yaml:4:10:",
        "village.yaml:5:3:",
        "village.yaml:6:23:",
        "village.yaml:6:31:",
        "village.yaml:7:1:",
    ]


@pytest.mark.parametrize(
    "text", ["a: [1, 2\n", "a: b: c\n", "a: 'x\n", "a: @x\n", "a: *b\n", "a: 1\n---\nb: 2\n", "a: \x00\n"]
)
def test_what_is_not_yaml_is_told_as_that(tmp_path, text):
    """No traceback of the reader, whatever stands in the file."""
    assert only_mistake(tmp_path, text).startswith("village.yaml")


def test_a_character_that_is_none_is_told_with_its_place(tmp_path):
    """A zero byte in the third line."""
    found = only_mistake(tmp_path, "name: a\ntime:\n  days: \x002\n")

    assert found == "village.yaml:3:9: the character U+0000 has no place in a text; remove it."


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path):
    """A missing file, a folder, bytes that are no text."""
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    for path, words in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "folder"),
        (tmp_path / "latin.yaml", "UTF-8"),
    ):
        with pytest.raises(ScenarioError, match=words):
            load(path)


def test_anchors_that_multiply_are_stopped(tmp_path):
    """Nine levels of ten aliases each would be a thousand million values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]

    assert "more than" in mistakes_of(tmp_path, "\n".join(lines))[-1]


def test_an_anchor_in_itself_is_a_mistake(tmp_path):
    """What would be read for ever is told."""
    assert any("contains itself" in mistake for mistake in mistakes_of(tmp_path, "people: &a {rules: [*a]}\n"))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{},'\"#&*!|>%@ \n\t0123456789.~"), max_size=60))
def test_no_text_makes_the_reader_fail(tmp_path_factory, text):
    """Whatever a file holds, it is a scenario or a list of mistakes."""
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load(path)
    except ScenarioError as error:
        assert error.mistakes  # noqa: PT017


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_scenario_of_ten_lines_has_everything(tmp_path):
    """Every key has a default."""
    scenario = load(written(tmp_path, 'name: short\ntime:\n  start: "2016-05-02T00:00"\n  days: 2\n'))

    assert scenario.time.delivery_day_start == "00:00"
    assert scenario.storage == ()
    assert list(scenario.tariffs) == ["dynamic"]
    assert set(scenario.series) == {"spot", "emission_factor"}
    assert scenario.people.from_ == "grid"


def test_a_delivery_day_begins_when_the_run_does(tmp_path):
    """A start at noon means days from noon to noon, unless said otherwise."""
    noon = load(written(tmp_path, 'time: {start: "2016-07-18T12:00"}\n'))
    other = load(written(tmp_path, 'time: {start: "2016-07-18T12:00", delivery_day_start: "00:00", days: 2}\n'))

    assert noon.time.delivery_day_start == "12:00"
    assert [f"{moment:%dT%H}" for moment in noon.time.boundaries()] == ["18T12", "19T12"]
    assert [f"{moment:%dT%H}" for moment in other.time.boundaries()] == ["18T12", "19T00", "20T00"]


def test_yaml_is_read_as_yaml_1_2(tmp_path):
    """NO is a text, 0o17 is octal, 1_000 is a thousand, anchors and merges work."""
    scenario = load(
        written(
            tmp_path,
            "name: NO\nseed: 0o17\n"
            "people:\n  homes:\n    - &one {id: a, bus: x, load: {kw: 1_0}}\n    - {<<: *one, id: b}\nmarket: {replanning: off}\n",
        )
    )

    assert (scenario.name, scenario.seed, scenario.market.replanning) == ("NO", 15, "off")
    assert [(home.id, home.load.kw) for home in scenario.people.homes] == [("a", 10.0), ("b", 10.0)]


def test_a_battery_without_power_stores_two_hours(tmp_path):
    """And one with a power of its own keeps it."""
    scenario = load(
        written(
            tmp_path,
            "people: {homes: [{id: a, bus: x, battery: {kwh: 8}}, {id: b, bus: x, battery: {kwh: 8, charge_kw: 3}}]}\n",
        )
    )
    first, second = (home.battery for home in scenario.people.homes)

    assert first is not None
    assert second is not None
    assert (first.charge_kw, first.discharge_kw) == (4.0, 4.0)
    assert (second.charge_kw, second.discharge_kw) == (3.0, 4.0)


def test_a_scenario_cannot_be_changed():
    """It is what was read, for the whole run."""
    with pytest.raises(ValidationError):
        Scenario().seed = 3  # type: ignore[misc]


# -- set ---------------------------------------------------------------------------------------------------------------


def test_set_changes_a_value_by_path_by_place_and_by_id():
    """As a sweep does it; the file stays as it is."""
    scenario = load(
        demo_path(),
        [
            "storage.0.energy_kwh=300",
            "storage.ess.charge_kw=50",
            "people.rules.1.count=3",
            'name="b"',
            "market.gate=10:30",
        ],
        seed=9,
        days=2,
    )

    assert (scenario.storage[0].energy_kwh, scenario.storage[0].charge_kw) == (300.0, 50.0)
    assert scenario.people.rules[1].count == 3
    assert (scenario.name, scenario.seed, scenario.time.days, scenario.market.gate) == ("b", 9, 2, "10:30")


def test_set_makes_sections_that_the_file_leaves_out(tmp_path):
    """A default can be changed without being in the file."""
    scenario = load(
        written(tmp_path, "name: a\n"), ["tariffs.dynamic.network_eur_per_kwh=0.05", "storage=[{energy_kwh: 0}]"]
    )

    assert scenario.tariffs["dynamic"].network_eur_per_kwh.eur_per_kwh == 0.05
    assert scenario.storage[0].energy_kwh == 0


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        ("time.days=0", "--set time.days=0: time.days: must be at least 1; given 0."),
        ("time.dais=2", '--set time.dais=2: "dais" is not a key of time; did you mean "days"?'),
        ("time.days", '--set time.days: write it as path=value, for example "time.days=2".'),
        ("storage.3.id=a", '--set storage.3.id=a: "3" cannot be found in storage, which is a list of 1.'),
        ("seed.x=1", '--set seed.x=1: "x" cannot be found in seed, which is 0.'),
        ("time.days=[", "--set time.days=[: '[' is not a value in YAML."),
        (".days=1", '--set .days=1: ".days" is not a path such as "time.days" or "storage.0.energy_kwh".'),
    ],
)
def test_a_mistake_in_a_set_is_told_with_the_set(one, expected):
    """Not with a line of the file, where it does not stand."""
    with pytest.raises(ScenarioError) as caught:
        load(demo_path(), [one])

    assert caught.value.mistakes == (expected,)


def test_seed_and_days_are_told_with_their_options():
    """--days 0 is not a mistake of the file."""
    with pytest.raises(ScenarioError) as caught:
        load(demo_path(), days=0, seed=-1)

    assert caught.value.mistakes == (
        "--seed: seed: must be at least 0; given -1.",
        "--days: time.days: must be at least 1; given 0.",
    )


# -- dump --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [demo_path(), *EXAMPLES], ids=lambda path: path.parent.name + "/" + path.name)
def test_what_is_dumped_reads_as_the_same_scenario(tmp_path, path):
    """Byte for byte, and with nothing left to defaults."""
    scenario = load(path)
    text = dump(scenario)
    again = load(written(tmp_path, text))

    assert again == scenario
    assert dump(again) == text


@settings(max_examples=40, deadline=None)
@given(
    name=st.text(min_size=1, max_size=12).filter(lambda s: s.strip() == s and s.isprintable()),
    factor=st.floats(0, 1e5, allow_nan=False),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_name_and_number_survives_dumping(tmp_path_factory, name, factor, seed):
    """Names like "12:00", "null" or "NO", and numbers of any size."""
    scenario = Scenario.model_validate(
        {"name": name, "seed": seed, "storage": [{"energy_kwh": factor}], "tariffs": {name: {}}}
    )
    path = tmp_path_factory.mktemp("dump") / "a.yaml"
    path.write_text(dump(scenario), encoding="utf-8")

    assert load(path) == scenario


def test_a_dump_implies_nothing():
    """Every key of every section stands in it."""
    text = dump(load(demo_path()))
    for key in ("delivery_day_start", "base_import_kw", "self_discharge_per_h", "emission_factor", "load_persistence"):
        assert key in text


def test_a_scenario_can_be_sent_to_another_process():
    """With the places for its messages."""
    scenario = load(demo_path())
    again = pickle.loads(pickle.dumps(scenario))

    assert again == scenario
    assert again.place("time", "days") == scenario.place("time", "days") != scenario.place("time")


# -- resolve -----------------------------------------------------------------------------------------------------------


def test_check_reads_everything_and_says_what_is_there():
    """The demo as its description has it."""
    notes = check(demo_path())

    assert "1-LV-rural3--2-no_sw: 129 buses, 128 branches." in notes
    assert any(note.startswith("118 homes: 78 with solar") and "30 with a car" in note for note in notes)
    assert sum(note.startswith("aggregator-") and note.endswith("25 members.") for note in notes) == 3


def test_the_demos_storage_stands_at_the_busbar_below_the_transformer():
    """Where no bus is named."""
    resolved = resolve(load(demo_path()))
    feeder = resolved.grid.feeder

    assert feeder.buses.v_nominal_v[resolved.storage[0].bus_index] == 400.0
    assert feeder.parent[resolved.storage[0].bus_index] == feeder.source_bus


def transformer(name: str, upper: str, lower: str, v_upper: float, v_lower: float) -> Transformer:
    return Transformer(name, upper, lower, 400, v_upper, v_lower, 4, 4.6)


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        pytest.param(["hv-mv", "mv-lv"], "mv", id="the first below the source"),
        pytest.param(["lv-mv", "mv-hv"], "mv", id="whichever way the transformers are drawn"),
        pytest.param(["hv-mv", "hv-lv"], None, id="two at the source"),
        pytest.param([], "hv", id="none"),
    ],
)
def test_the_busbar_is_the_bus_below_the_first_transformer(branches, expected):
    """Not clear where several hang at the source; then the storage must name its bus."""
    volts = {"hv": 110e3, "mv": 20e3, "lv": 400.0} if branches else {"hv": 400.0}
    made = [transformer(one, *one.split("-"), *(volts[end] for end in one.split("-"))) for one in branches]
    feeder = Feeder.build("two levels", volts, made, source_bus="hv")
    found = _busbar(feeder)

    assert (None if found is None else feeder.buses.ids[found]) == expected


def test_the_content_id_is_that_of_the_content():
    """Equal scenarios agree, wherever they stand; a seed, a day or a price changes it."""
    one = resolve(load(demo_path())).content_id

    assert one == resolve(load(demo_path())).content_id
    for change in ("seed=1", "time.days=6", "tariffs.dynamic.network_eur_per_kwh=0.11"):
        assert resolve(load(demo_path(), [change])).content_id != one


def test_a_changed_file_changes_the_content_id(tmp_path):
    """The table's name is the same; what stands in it is not."""
    text = "grid: {source: simbench:1-LV-rural1--2-no_sw}\npeople: {table: homes.csv}\n"
    (tmp_path / "homes.csv").write_text("id,bus,load_kw\na,LV1.101 Bus 10,1\n", encoding="utf-8")
    one = resolve(load(written(tmp_path, text)))
    (tmp_path / "homes.csv").write_text("id,bus,load_kw\na,LV1.101 Bus 10,2\n", encoding="utf-8")
    other = resolve(load(written(tmp_path, text)))

    assert dump(one.scenario) == dump(other.scenario)
    assert one.content_id != other.content_id


def test_a_storage_of_zero_is_none(tmp_path):
    """A defined result, and a note of it."""
    resolved = resolve(load(written(tmp_path, "storage: [{energy_kwh: 0, charge_kw: 0}]\n")))

    assert resolved.storage == ()
    assert any("no shared storage" in note for note in resolved.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: {source: simbench:1-LV-rural9--2-no_sw}\n", "rural9"),
        ("grid: {source: nowhere}\n", "nowhere"),
        ("storage: [{bus: X}]\n", '"X" is not a bus'),
        ("settlement: {rule: alloc.pro}\n", 'did you mean "alloc.prorata"'),
        ("settlement: {price: price.x}\n", '"price.x" is not a rule'),
        ("settlement: {rule: alloc.static, keys: {Nobody: 1}}\n", '"Nobody" is not a home'),
        ("series: {spot: {from: table, file: prices.csv}}\n", "prices.csv"),
        ("profiles: {tables: [{file: none.csv}]}\n", "none.csv"),
        ("people: {table: none.csv}\n", "none.csv: cannot be read"),
        ("people: {load_profile: H0-X}\n", '"H0-X" is not a profile'),
        ("tariffs: {t: {energy_eur_per_kwh: 0.05, network_eur_per_kwh: 0, levies_eur_per_kwh: 0}}\n", "in circles"),
        ("aggregators: [{id: a, members: [Nobody]}]\n", '"Nobody" is not a home'),
    ],
)
def test_what_a_scenario_refers_to_must_be_there(tmp_path, text, words):
    """Grid, bus, rule, file, profile: told with the place that names it."""
    with pytest.raises(ScenarioError, match=r"village\.yaml:1:|\.csv") as caught:
        resolve(load(written(tmp_path, text)))

    assert words in str(caught.value)


def test_a_short_first_day_and_a_year_that_ends_are_noted(tmp_path):
    """Not mistakes, but worth knowing."""
    notes = check(
        written(
            tmp_path,
            'time: {start: "2016-12-31T12:00", delivery_day_start: "00:00", days: 2}\ndso: {envelopes: false}\n',
        )
    )

    assert any("first delivery day is short" in note for note in notes)
    assert any("begin again" in note for note in notes)


def test_an_ambiguous_start_is_noted(tmp_path):
    """When clocks go back, 02:30 comes twice."""
    assert any("happens twice" in note for note in check(written(tmp_path, 'time: {start: "2016-10-30T02:30"}\n')))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=pytest.mark.slow if p.name == "kerber.yaml" else (), id=f"{p.parent.name}/{p.name}")
        for p in EXAMPLES
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_example_is_without_mistakes(path):
    """Grid, people and files included."""
    assert check(path)


def test_resolving_the_demo_loads_nothing_heavy():
    """The demo starts at once: SimBench is read as files, pandas and the solvers stay out."""
    code = (
        "import sys; from sim.scenario import *; from sim.resolve import resolve; resolve(load(demo_path()));"
        "print([m for m in ('pandas','simbench','pandapower','tsam','pvlib','cvxpy','pyomo','plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout.strip() == "[]"


# -- schema and documents ----------------------------------------------------------------------------------------------


def test_the_template_is_a_scenario(tmp_path):
    """What init writes runs as it is."""
    path = written(tmp_path, template())

    assert load(path).name == "my village"
    assert check(path)


def test_the_json_schema_describes_every_key_with_its_unit():
    """No key without a sentence; kW, kWh and prices carry their unit; it is JSON."""
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    described = {d["title"]: bool(d.get("description")) for d in sections}
    for section in sections:
        for key, spec in section["properties"].items():
            says = spec.get("description") or any(
                described[r.rsplit("/", 1)[1]] for r in [spec.get("$ref", "#/x")] if r in str(section)
            )

            assert says, f"{section['title']}.{key}"
            assert spec.get("unit", "") == unit(key)

    assert schema["$defs"]["EssSpec"]["properties"]["charge_kw"]["unit"] == "kW"
    assert schema["additionalProperties"] is False
    assert json.loads(json.dumps(schema)) == schema


def test_the_page_of_the_scenario_is_up_to_date():
    """docs/scenario.md is what `python -m sim.scenario_page` prints."""
    assert (ROOT / "docs" / "scenario.md").read_text(encoding="utf-8") == markdown()


def test_the_page_names_every_key():
    """Of every section, with nothing left out."""
    page = markdown()
    for section in json_schema()["$defs"].values():
        for key in section["properties"]:
            assert f"| `{key}` |" in page
