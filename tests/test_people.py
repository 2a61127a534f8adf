"""People: every home of every source becomes a row, and what one rule draws is no other rule's business."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.feeder import Feeder, Line
from network.grid import Bounds, Connections, Grid
from network.sources import read
from sim.people import People, build
from sim.people_table import columns
from sim.profiles import ArrayProfiles, Profiles, table_profiles
from sim.profiles_simbench import simbench_profiles
from sim.scenario import Scenario, ScenarioError, load

YEAR_START = np.datetime64("2016-01-01T00:00")
PROFILES = ArrayProfiles(
    "made",
    ("H0", "H0_q", "G0", "PV1", "PV2", "pump", "pump_q", "own"),
    YEAR_START,
    15,
    np.array([[0.2, 1.0], [0.1, 0.5], [0.3, 0.8], [0.0, 0.6], [0.0, 0.5], [0.2, 0.9], [0.1, 0.3], [2.0, 5.0]]),
)


def grid(n: int = 12, **changes: Any) -> Grid:
    """A line of ``n`` buses with a connection each: every fourth has solar, every sixth a battery, the fifth a car."""
    k = np.arange(n)
    buses = {"station": 400.0, **{f"bus {i}": 400.0 for i in k}}
    names = list(buses)
    lines = [Line(f"cable {i}", names[i], names[i + 1], 0.01, 0.004, rating_a=270) for i in range(n)]
    zeros = np.zeros(n)
    solar, battery, car, pump = k % 4 == 0, k % 6 == 0, k == 4, k == 5
    connections = {
        "id": tuple(f"home {i}" for i in k),
        "bus": k + 1,
        "base_kw": 2.0 + 0.0 * k,
        "base_kvar": 0.5 + zeros,
        "profile": tuple("H0" for _ in k),
        "reactive_profile": tuple("H0_q" for _ in k),
        "heat_pump_kw": np.where(pump, 3.0, 0.0),
        "heat_pump_kvar": np.where(pump, 0.9, 0.0),
        "heat_pump_profile": tuple("pump" if one else "" for one in pump),
        "heat_pump_reactive_profile": tuple("pump_q" if one else "" for one in pump),
        "ev_count": np.where(car, 2, 0),
        "ev_kw": np.where(car, 7.4, 0.0),
        "ev_profile": tuple("" for _ in k),
        "pv_kw_peak": np.where(solar, 8.0, 0.0),
        "pv_profile": tuple(f"PV{1 + i % 2}" if one else "" for i, one in enumerate(solar)),
        "battery_kw": np.where(battery, 4.0, 0.0),
        "battery_kwh": np.where(battery, 8.0, 0.0),
    } | changes
    nan = np.full(n + 1, np.nan)
    return Grid(
        feeder=Feeder.build("row", buses, lines, source_bus="station"),
        connections=Connections(**connections),  # type: ignore[arg-type]
        limits=Bounds(nan, nan, np.full(n, np.nan)),
        provenance="made up",
        licence="",
    )


def people(n: int = 12, **sections: Any) -> People:
    return build(Scenario.model_validate(sections), grid(n), PROFILES)


def mistakes(g: Grid | None = None, **sections: Any) -> tuple[str, ...]:
    with pytest.raises(ScenarioError) as caught:
        build(Scenario.model_validate(sections), g or grid(), PROFILES)
    return caught.value.mistakes


def listed(*homes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"people": {"homes": [{"bus": "bus 0", **home} for home in homes], **more}}


# -- sources -----------------------------------------------------------------------------------------------------------


def test_the_connections_of_a_data_set_become_homes():
    """With loads, devices and profiles as the data has them."""
    p = people()

    assert p.n == 12
    assert p.agent_id[3] == "home 3"
    assert p.bus_index.tolist() == list(range(1, 13))
    assert np.flatnonzero(p.pv_kw_peak).tolist() == [0, 4, 8]
    assert np.flatnonzero(p.battery_kwh).tolist() == [0, 6]
    assert (p.ev_kw[4], p.ev_count[4]) == (7.4, 2)
    assert (p.heat_pump_kw[5], p.heat_pump_profile[5], p.heat_pump_profile_q[5]) == (3.0, "pump", "pump_q")
    assert p.heat_buffer_kwh[5] == 6.0
    assert set(p.load_profile) == {"H0"}
    assert (p.load_kvar == 0.5).all()


def test_a_factory_in_a_data_set_is_no_mistake():
    """Bounds for homes hold for what people write, not for data that its reader has checked."""
    g = grid(base_kw=np.full(12, 2500.0))

    assert (build(Scenario(), g, PROFILES).load_kw == 2500.0).all()


def test_homes_of_a_list_become_rows():
    """Every key of a home reaches its column."""
    p = people(
        **listed(
            {
                "id": "all",
                "bus": "bus 7",
                "load": {"kw": 1.5, "profile": "G0", "kvar": 0.2, "profile_q": "H0_q"},
                "solar": {"kw_peak": 5, "profile": "PV2"},
                "battery": {"kwh": 6, "charge_kw": 2, "initial_kwh": 1},
                "ev": {"kw": 3.7, "count": 3, "v2g": True},
                "heat_pump": {"kw": 2, "profile": "pump", "kvar": 0.4, "profile_q": "pump_q"},
                "aggregator": "agg",
                "tariff": "b",
                "export_cap_kw": 4,
            },
            {"id": "nothing"},
            heat_buffer_hours=3,
            battery_efficiency_charge=0.9,
        ),
        tariffs={"a": {}, "b": {}},
        aggregators=[{"id": "agg"}],
    )

    assert (p.bus_index[0], p.aggregator_id, p.tariff_id) == (8, ("agg", ""), ("b", "a"))
    assert (p.load_profile[0], p.load_kw[0], p.load_kvar[0], p.load_profile_q[0]) == ("G0", 1.5, 0.2, "H0_q")
    assert (p.pv_kw_peak[0], p.pv_profile[0]) == (5.0, "PV2")
    assert (p.battery_kwh[0], p.battery_charge_kw[0], p.battery_discharge_kw[0], p.battery_initial_kwh[0]) == (
        6,
        2,
        3,
        1,
    )
    assert (p.battery_efficiency_charge[0], p.battery_efficiency_discharge[0]) == (0.9, 0.95)
    assert (p.ev_kw[0], p.ev_count[0], bool(p.ev_v2g[0])) == (3.7, 3, True)
    assert (p.heat_pump_kw[0], p.heat_pump_kvar[0], p.heat_buffer_kwh[0]) == (2.0, 0.4, 6.0)
    assert p.active.tolist() == [True, False]
    assert p.export_cap_kw.tolist() == [4.0, 0.0]


def test_one_home_is_enough():
    """A community of one is a defined case."""
    p = people(**listed({"id": "only"}))

    assert p.n == 1
    assert not p.active.any()


def test_no_home_is_told():
    """A data set without connections cannot be simulated."""
    empty = grid(1)
    nothing = {name: getattr(empty.connections, name)[:0] for name in Connections.__dataclass_fields__}
    empty = Grid(empty.feeder, Connections(**nothing), empty.limits, "", "")

    assert "there is no home" in mistakes(empty)[0]


# -- references --------------------------------------------------------------------------------------------------------


def test_a_home_on_an_unknown_bus_is_told_with_the_nearest(tmp_path):
    """File, line and column of the bus; all such homes at once."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "people:\n  homes:\n    - {id: a, bus: bus 1}\n    - {id: b, bus: bus 11x}\n    - {id: c, bus: nowhere}\n",
        encoding="utf-8",
    )
    with pytest.raises(ScenarioError) as caught:
        build(load(path), grid(), PROFILES)
    first, second = caught.value.mistakes

    assert first.startswith(f"{path}:4:20: ")
    assert 'did you mean "bus 11"?' in first
    assert second.startswith(f"{path}:5:20: ")
    assert "there are station, bus 0" in second


@pytest.mark.parametrize(
    ("home", "words"),
    [
        ({"load": {"kw": 1, "profile": "H1"}}, '"H1" is not a profile'),
        ({"load": {"kw": 1, "kvar": 1, "profile_q": "Q"}}, '"Q" is not a profile'),
        ({"solar": {"kw_peak": 5, "profile": "PV9"}}, '"PV9" is not a profile'),
        ({"heat_pump": {"kw": 5, "profile": "Air"}}, '"Air" is not a profile'),
    ],
)
def test_an_unknown_profile_is_told(home, words):
    """With the home whose it is."""
    (told,) = mistakes(**listed({"id": "a", **home}))

    assert words in told
    assert "a: " in told


NEGATIVE = "time,family,sun,warm,fine\n2016-07-18T00:00Z,1,0,0,0\n2016-07-18T01:00Z,-0.5,-0.2,-1,-0.0\n2016-07-18T02:00Z,1,-0.3,0,0\n"


@pytest.mark.parametrize(
    ("home", "words"),
    [
        (
            {"load": {"kw": 1, "profile": "family"}},
            "meters.csv:3:family: what a home draws is never negative; given -0.5. A meter that counts what is fed in as negative",
        ),
        (
            {"solar": {"kw_peak": 5, "profile": "sun"}},
            "meters.csv:4:sun: what a solar plant produces is never negative; given -0.3; 2 of its values are. Production is positive",
        ),
        (
            {"heat_pump": {"kw": 2, "profile": "warm"}},
            "meters.csv:3:warm: what a heat pump draws is never negative; given -1. Turn the sign",
        ),
    ],
)
def test_a_negative_profile_is_told_with_its_place_and_what_the_sign_means(tmp_path, home, words):
    """Once, at the first home that uses it; behind other tables too."""
    (tmp_path / "meters.csv").write_text(NEGATIVE, encoding="utf-8")
    profiles = Profiles.combine(PROFILES, table_profiles(tmp_path / "meters.csv"))
    scenario = Scenario.model_validate(listed({"id": "a", **home}, {"id": "b", **home}))

    with pytest.raises(ScenarioError) as caught:
        build(scenario, grid(), profiles)

    (mistake,) = caught.value.mistakes
    assert words in mistake


def test_what_may_be_negative_is_not_refused(tmp_path):
    """Reactive power, a column that nobody uses, and a zero with a sign."""
    (tmp_path / "meters.csv").write_text(NEGATIVE, encoding="utf-8")
    profiles = Profiles.combine(PROFILES, table_profiles(tmp_path / "meters.csv"))
    home = {"id": "a", "load": {"kw": 1, "profile": "fine", "profile_q": "family", "kvar": 1}}

    assert build(Scenario.model_validate(listed(home)), grid(), profiles).n == 1


def test_a_profile_is_drawn_for_a_device_that_names_none():
    """Among those of the data set, with the heat pump's reactive power in the data's proportion."""
    p = people(**listed(*({"id": f"h{i}", "solar": {"kw_peak": 5}, "heat_pump": {"kw": 2}} for i in range(30))))

    assert set(p.pv_profile) == {"PV1"}
    assert set(p.heat_pump_profile) == {"pump"}
    assert np.allclose(p.heat_pump_kvar, 0.6)
    without = grid(
        pv_profile=("",) * 12, pv_kw_peak=np.zeros(12), heat_pump_profile=("",) * 12, heat_pump_kw=np.zeros(12)
    )
    told = mistakes(without, **listed({"id": "a", "heat_pump": {"kw": 2}}))

    assert "names no profile" in told[0]


def test_an_id_is_not_that_of_somebody_else():
    """A connection of the data set may be called like the storage of the scenario."""
    assert '"home 3" is the name of a storage' in mistakes(storage=[{"id": "home 3"}])[0]
    assert '"home 3" is the name of an aggregator' in mistakes(aggregators=[{"id": "home 3"}])[0]


# -- rules -------------------------------------------------------------------------------------------------------------


def test_a_share_is_what_there_is_when_the_rule_is_done():
    """Three of twelve have solar; half of all is six, so three more get some."""
    before, after = people(), people(people={"rules": [{"give": "solar", "share": 0.5, "kw_peak": [6, 11]}]})
    new = (after.pv_kw_peak > 0) & (before.pv_kw_peak == 0)

    assert (after.pv_kw_peak > 0).sum() == 6
    assert (after.pv_kw_peak[before.pv_kw_peak > 0] == 8.0).all()
    assert ((after.pv_kw_peak[new] >= 6) & (after.pv_kw_peak[new] <= 11)).all()


def test_a_count_is_added():
    """And only those without get one."""
    p = people(people={"rules": [{"give": "battery", "count": 10, "kwh": 7, "hours": 3.5}]})

    assert (p.battery_kwh > 0).sum() == 12
    assert sorted(set(p.battery_kwh)) == [7.0, 8.0]
    assert set(p.battery_charge_kw[p.battery_kwh == 7.0]) == {2.0}


def test_homes_are_those_that_are_named():
    """By id, and a mistake where there is nobody or somebody who has one."""
    p = people(people={"rules": [{"give": "ev", "homes": ["home 1", "home 9"], "kw": 22, "cars": 2, "v2g": True}]})
    told = mistakes(people={"rules": [{"give": "ev", "homes": ["home 4", "home 99"]}]})

    assert np.flatnonzero(p.ev_kw == 22).tolist() == [1, 9]
    assert p.ev_v2g[[1, 4, 9]].tolist() == [True, False, True]
    assert "has ev already" in told[0]
    assert '"home 99" is not a home' in told[1]


def test_among_limits_the_homes():
    """Batteries for those with solar."""
    p = people(people={"rules": [{"give": "battery", "share": 1, "among": "solar"}]})

    assert ((p.battery_kwh > 0) == ((p.pv_kw_peak > 0) | (np.arange(12) == 6))).all()


def test_more_than_there_are_is_a_mistake():
    """Said with how many there are."""
    assert (
        "asks for 10 homes; only 9 have no solar yet" in mistakes(people={"rules": [{"give": "solar", "count": 10}]})[0]
    )
    assert (
        "only 2 of those with solar have no battery"
        in mistakes(people={"rules": [{"give": "battery", "count": 3, "among": "solar"}]})[0]
    )


def test_a_rule_may_give_a_tariff():
    """To homes that name none; the others stay on the first."""
    p = people(tariffs={"a": {}, "b": {}}, people={"rules": [{"give": "tariff", "tariff": "b", "share": 0.25}]})

    assert p.tariff_id.count("b") == 3
    assert p.tariff_id.count("a") == 9


RULES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"give": st.just("solar"), "share": st.floats(0, 1), "kw_peak": st.just([5, 10])}),
        st.fixed_dictionaries({"give": st.just("battery"), "share": st.floats(0, 1), "kwh": st.just([5, 10])}),
        st.fixed_dictionaries({"give": st.just("ev"), "share": st.floats(0, 1), "kw": st.just([3, 22])}),
        st.fixed_dictionaries({"give": st.just("heat_pump"), "share": st.floats(0, 1)}),
    ),
    max_size=4,
)
COLUMNS_OF = {"solar": "pv_kw_peak", "battery": "battery_kwh", "ev": "ev_kw", "heat_pump": "heat_pump_kw"}


@settings(max_examples=40, deadline=None)
@given(rules=RULES, other=RULES, seed=st.integers(0, 1000))
def test_a_rule_does_not_reshuffle_what_others_draw(rules, other, seed):
    """Rules about other devices, before or after, leave what a rule gives as it was."""
    mine = [rule for rule in rules if rule["give"] == "solar"]
    others = [rule for rule in other if rule["give"] != "solar"]
    alone = people(seed=seed, people={"rules": mine})
    among = people(seed=seed, people={"rules": [*others, *mine]})
    before = people(seed=seed, people={"rules": [*mine, *others]})

    for p in (among, before):
        assert (p.pv_kw_peak == alone.pv_kw_peak).all()
        assert p.pv_profile == alone.pv_profile
        assert (p.load_shift_steps == alone.load_shift_steps).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), more=st.integers(1, 20))
def test_a_further_home_leaves_the_draws_of_the_others(seed, more):
    """What somebody gets does not change because somebody else moves in at the end."""
    rules = [{"give": "solar", "share": 1, "kw_peak": [5, 10]}, {"give": "ev", "share": 1, "kw": [3, 22]}]
    few, many = (people(n, seed=seed, people={"rules": rules}) for n in (12, 12 + more))

    for column in ("pv_kw_peak", "ev_kw", "load_shift_steps"):
        assert (getattr(few, column) == getattr(many, column)[:12]).all()


@settings(max_examples=40, deadline=None)
@given(rules=RULES, seed=st.integers(0, 1000))
def test_rules_never_take_anything_away(rules, seed):
    """What the data set gives stays, and shares are kept."""
    before, after = people(seed=seed), people(seed=seed, people={"rules": rules})
    for name in COLUMNS_OF.values():
        had = getattr(before, name) > 0

        assert (getattr(after, name)[had] == getattr(before, name)[had]).all()
    for rule in rules:
        assert (getattr(after, COLUMNS_OF[rule["give"]]) > 0).sum() >= round(rule["share"] * 12)


def test_equal_seeds_are_equal_people_and_others_are_not():
    """Bit for bit."""
    rules = {"rules": [{"give": "solar", "count": 4, "kw_peak": [6, 11]}]}
    one, two, other = people(people=rules, seed=1), people(people=rules, seed=1), people(people=rules, seed=2)

    for name in People.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.pv_kw_peak, other.pv_kw_peak)


# -- what follows from it ----------------------------------------------------------------------------------------------


def test_simbench_solar_is_lifted_to_the_peak_of_a_real_plant():
    """Available power peaks at 0.85 kW per kWp in the year, with each profile; null leaves it as shipped."""
    g = grid(pv_profile=tuple(f"PV{1 + (i // 4) % 2}" if i % 4 == 0 else "" for i in range(12)))
    p, shipped = (
        build(Scenario.model_validate({"people": {"solar_peak_kw_per_kw_peak": peak}}), g, PROFILES)
        for peak in (0.85, None)
    )

    assert np.allclose(p.pv_scale[[0, 4, 8]], [0.85 / 0.6, 0.85 / 0.5, 0.85 / 0.6])
    assert (shipped.pv_scale == 1).all()


def test_measured_solar_is_not_scaled():
    """A profile of one's own is kW per kW of peak power as it stands."""
    p = people(**listed({"id": "a", "solar": {"kw_peak": 5, "profile": "own"}}))

    assert p.pv_scale[0] == 1.0


def test_only_homes_that_share_a_profile_are_shifted():
    """By at most 45 minutes, in steps of the profiles; a measured home stays as measured."""
    g = grid(200, profile=("own",) + ("H0",) * 198 + ("",))
    p = build(Scenario(), g, PROFILES)

    assert (p.load_shift_steps[0], p.load_shift_steps[-1]) == (0, 0)
    assert set(p.load_shift_steps[1:-1].tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    assert not build(Scenario.model_validate({"people": {"load_shift_minutes": 0}}), g, PROFILES).load_shift_steps.any()


def test_the_cap_of_imports_is_never_below_the_own_load():
    """4.2 kW, or the load's own peak in the year, plus car and heat pump."""
    p = people(
        **listed(
            {"id": "small", "load": {"kw": 2, "profile": "H0"}, "ev": {"kw": 11}},
            {"id": "shop", "load": {"kw": 10, "profile": "G0"}, "heat_pump": {"kw": 3, "profile": "pump"}},
            {"id": "steady", "load": {"kw": 6}},
        )
    )

    assert np.allclose(p.import_cap_kw, [4.2 + 11, 8.0 + 3, 6.0])


def test_the_cap_of_exports_is_what_the_home_can_feed_in():
    """The solar's peak; without solar what battery and car give."""
    p = people(
        **listed(
            {"id": "sun", "solar": {"kw_peak": 9, "profile": "PV1"}, "battery": {"kwh": 8}, "ev": {}},
            {"id": "battery", "battery": {"kwh": 8}, "ev": {"kw": 11, "v2g": True}},
            {"id": "none"},
        )
    )

    assert np.allclose(p.export_cap_kw, [9.0, 15.0, 0.0])


def test_aggregators_have_the_members_that_are_named_and_their_share_of_the_rest():
    """Nobody is with two; the draw is the seed's."""
    spec = [{"id": "a", "members": ["home 1", "home 2"]}, {"id": "b", "share": 0.5}, {"id": "c", "share": 0.25}]
    p = people(aggregators=spec)

    assert [p.aggregator_id.count(name) for name in ("a", "b", "c", "")] == [2, 6, 3, 1]
    assert p.aggregator_id[1:3] == ("a", "a")
    assert people(aggregators=spec, seed=3).aggregator_id != p.aggregator_id
    assert '"home 1" is with a already' in mistakes(aggregators=[spec[0], {"id": "d", "members": ["home 1"]}])[0]


def test_a_home_without_a_profile_gets_the_common_one():
    """Data sets other than SimBench's bring no profiles."""
    p = people(
        **listed({"id": "a", "load": {"kw": 2}}, {"id": "b", "load": {"kw": 1, "profile": "H0"}}, load_profile="G0")
    )

    assert p.load_profile == ("G0", "H0")


# -- tables ------------------------------------------------------------------------------------------------------------


def table(tmp_path: Path, text: str) -> People:
    (tmp_path / "homes.csv").write_text(text, encoding="utf-8")
    (tmp_path / "a.yaml").write_text("people: {table: homes.csv}\n", encoding="utf-8")
    return build(load(tmp_path / "a.yaml"), grid(), PROFILES)


def test_a_table_says_what_a_list_says(tmp_path):
    """The same homes from CSV with commas or semicolons, from Parquet, and from the scenario."""
    homes = [
        {
            "id": "a, the first",
            "bus": "bus 1",
            "load": {"kw": 1.5, "profile": "H0"},
            "solar": {"kw_peak": 5, "profile": "PV1"},
        },
        {
            "id": "b",
            "bus": "bus 2",
            "load": {"kw": 2, "profile": "G0"},
            "ev": {"kw": 11, "v2g": True},
            "battery": {"kwh": 4},
        },
    ]
    header = [
        "id",
        "bus",
        "load_kw",
        "load_profile",
        "solar_kw_peak",
        "solar_profile",
        "ev_kw",
        "ev_v2g",
        "battery_kwh",
    ]
    cells = [
        ['"a, the first"', "bus 1", "1.5", "H0", "5", "PV1", "", "", "0"],
        ["b", "bus 2", "2", "G0", "", "", "11", "true", "4"],
    ]
    expected = build(Scenario.model_validate({"people": {"homes": homes}}), grid(), PROFILES)
    got = [
        table(tmp_path, "\n".join(delimiter.join(row) for row in (header, *cells)) + "\n") for delimiter in (",", ";")
    ]
    rows = [
        {
            "id": "a, the first",
            "bus": "bus 1",
            "load_kw": 1.5,
            "load_profile": "H0",
            "solar_kw_peak": 5.0,
            "solar_profile": "PV1",
        },
        {
            "id": "b",
            "bus": "bus 2",
            "load_kw": 2.0,
            "load_profile": "G0",
            "ev_kw": 11.0,
            "ev_v2g": True,
            "battery_kwh": 4.0,
        },
    ]
    pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(header), **row} for row in rows]), tmp_path / "homes.parquet")
    (tmp_path / "b.yaml").write_text("people: {table: homes.parquet}\n", encoding="utf-8")
    got.append(build(load(tmp_path / "b.yaml"), grid(), PROFILES))

    for p in got:
        for name in People.__dataclass_fields__:
            assert np.array_equal(getattr(p, name), getattr(expected, name)), name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,bus,load_kw\na,bus 1,two\n", "homes.csv:2:load_kw: must be a number; given 'two'."),
        (
            'id,bus,load_kw\na,bus 1,"1,5"\n',
            "homes.csv:2:load_kw: must be a number, without quotes and with a decimal point; given '1,5'.",
        ),
        ("id,bus,load_kw\na,bus 1,-1\n", "homes.csv:2:load_kw: must be at least 0; given -1."),
        ("id,bus,load_kw\na,bus 1,nan\n", "homes.csv:2:load_kw: must be a finite number; given nan."),
        (
            "id,bus,solar_kw_peak\na,bus 1,5000\n",
            "homes.csv:2:solar_kw_peak: must be at most 1000; given 5000. Powers are in kW, not in W.",
        ),
        (
            "id,bus\na,bus 1\n\nb,bus 1\na,bus 2\n",
            'homes.csv:5:id: "a" is the id of the home at homes.csv:2:id already.',
        ),
        ("id,bus\na\n", "homes.csv:2: has 1 cells; the header has 2. Quote a text that holds the delimiter."),
        (
            "id,bus\n,bus 1\n",
            "homes.csv:2:id: must be a name of 1 to 120 characters, without space at its ends; given ''.",
        ),
        ("id,bus,load\na,bus 1,2\n", "homes.csv:1:load: is not a column of a table of homes; did you mean load_kw?"),
        ("id,bus,bus\na,bus 1,bus 2\n", "homes.csv:1:bus: the column stands there twice. Remove one."),
        ("id,load_kw\na,2\n", "homes.csv:1:bus: the column is missing."),
        (
            "id,bus,ev_v2g\na,bus 1,true\n",
            "homes.csv:2:ev_v2g: is given, but ev_kw is empty or 0; give the size or leave both empty.",
        ),
        ("id,bus,ev_kw,ev_v2g\na,bus 1,11,maybe\n", "homes.csv:2:ev_v2g: must be true or false; given 'maybe'."),
        ("id,bus,ev_kw\na,bus 1,1_1\n", "homes.csv:2:ev_kw: must be a number; given '1_1'."),
        ("id,bus\n", "homes.csv: holds no home; a run needs at least one."),
        ("", "homes.csv:1: the first line is empty; it names the columns."),
    ],
)
def test_a_bad_cell_is_told_with_line_and_column(tmp_path, text, expected):
    """So that it can be found in a spreadsheet of a thousand rows."""
    with pytest.raises(ScenarioError) as caught:
        table(tmp_path, text)

    assert expected in caught.value.mistakes


def test_an_unknown_bus_in_a_table_is_told_with_its_line(tmp_path):
    """As everything else that is found only when the grid is there."""
    with pytest.raises(ScenarioError, match=r"^homes\.csv:3:bus: \"bus 99\" is not a bus of the grid"):
        table(tmp_path, "id,bus\na,bus 1\nb,bus 99\n")


def test_a_table_that_cannot_be_read_is_a_mistake(tmp_path):
    """Missing, of another kind, not Parquet."""
    (tmp_path / "bad.parquet").write_bytes(b"no")
    for name, words in (
        ("none.csv", "cannot be read"),
        ("homes.xlsx", "ends in .csv or .parquet"),
        ("bad.parquet", "Parquet"),
    ):
        (tmp_path / "a.yaml").write_text(f"people: {{table: {name}}}\n", encoding="utf-8")
        with pytest.raises(ScenarioError, match=words):
            build(load(tmp_path / "a.yaml"), grid(), PROFILES)


def test_the_columns_of_a_table_are_the_keys_of_a_home():
    """None is missing, none is twice."""
    assert columns()["battery_charge_kw"] == ("battery", "charge_kw")
    assert columns()["heat_pump_profile_q"] == ("heat_pump", "profile_q")
    assert len(set(columns().values())) == len(columns()) == 24


# -- SimBench ----------------------------------------------------------------------------------------------------------


def test_the_demos_village():
    """118 homes, 78 with solar, 30 with a car, 16 with a battery, 18 with a heat pump, 22 without a device."""
    from sim.scenario import demo_path

    p = build(load(demo_path()), read("simbench:1-LV-rural3--2-no_sw"), simbench_profiles("1-LV-rural3--2-no_sw"))

    assert p.n == 118
    assert [int((column > 0).sum()) for column in (p.pv_kw_peak, p.ev_kw, p.battery_kwh, p.heat_pump_kw)] == [
        78,
        30,
        16,
        18,
    ]
    assert int((~p.active).sum()) == 22
    assert p.pv_kw_peak.sum() == pytest.approx(642, abs=15)
    assert p.battery_kwh.sum() == pytest.approx(186, abs=0.5)
    assert sorted(set(p.pv_profile)) == ["", "PV1", "PV3", "PV4", "PV7"]
    assert sorted(p.aggregator_id.count(name) for name in set(p.aggregator_id)) == [25, 25, 25, 43]
