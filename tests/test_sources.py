"""SimBench's grids read as tables: the same as SimBench's own converter makes of them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

import network.simbench as module
from network.feeder import FeederError
from network.grid import Device, connect
from network.referee import check
from network.simbench import parse_code, read_simbench
from network.sources import SourceError, read

RURAL3 = "simbench:1-LV-rural3--2-no_sw"
GRIDS = ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6")
COMPARED = [pytest.param("1-LV-rural3--2-no_sw", id="rural3-2")] + [
    pytest.param(f"1-LV-{grid}--{scenario}-no_sw", id=f"{grid}-{scenario}", marks=pytest.mark.slow)
    for grid in GRIDS
    for scenario in (0, 1, 2)
    if (grid, scenario) != ("rural3", 2)
]


@pytest.fixture(scope="module")
def rural3():
    return read(RURAL3)


@pytest.fixture(scope="module", params=COMPARED)
def both(request):
    """The grid as we read it, and as SimBench's converter does, with the tap that pandapower 3 forgets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        net = simbench.get_simbench_net(request.param)
    net.trafo["tap_changer_type"] = "Ratio"
    return read(f"simbench:{request.param}"), net


def _by_bus(grid, values, where=None):
    """Sum a column of the connections by bus id."""
    total = dict.fromkeys(grid.feeder.buses.ids, 0.0)
    for bus, value in zip(grid.connections.bus, values, strict=True):
        total[grid.feeder.buses.ids[bus]] += value
    return total


def _same(ours, theirs):
    """Assert that two columns by name are equal to the watt."""
    assert ours.keys() >= theirs.keys()
    assert {name: round(value, 6) for name, value in ours.items() if value} == {
        name: round(value, 6) for name, value in theirs.items() if value
    }


# --- what is in rural3 ------------------------------------------------------------------------------------------------


def test_rural3_has_the_size_that_its_authors_state(rural3):
    """129 buses, 127 lines, one transformer of 400 kVA, 118 connections."""
    branches = rural3.feeder.branches
    assert (rural3.feeder.n_bus, branches.kind.count("line"), len(rural3.connections)) == (129, 127, 118)
    assert branches.sn_kva[~branches.is_line].tolist() == [400.0]
    assert set(branches.rating_a[branches.is_line]) == {270.0}
    assert rural3.feeder.buses.v_nominal_v[rural3.feeder.source_bus] == 20_000.0


def test_rural3_has_the_devices_that_its_scenario_states(rural3):
    """17 cars, 18 heat pumps, 27 PV plants and 16 with a battery of 93 kW and 186 kWh, none of them lost or doubled."""
    c = rural3.connections
    assert (c.ev_count.sum(), (c.heat_pump_kw > 0).sum(), (c.pv_kw_peak > 0).sum(), (c.battery_kw > 0).sum()) == (
        17,
        18,
        43,
        16,
    )
    assert c.battery_kw.sum() == pytest.approx(93.0, abs=0.1)
    assert c.battery_kwh.sum() == pytest.approx(185.9, abs=0.1)
    assert c.pv_kw_peak.sum() == pytest.approx(252.3 + 93.0, abs=0.1)
    assert set(c.pv_profile) == {"", "PV1", "PV3", "PV4", "PV7"}  # that of the PV, not of PV and battery as one


def test_every_home_of_rural3_has_a_base_load_of_its_own(rural3):
    """No device stands alone, and profiles are named as in the profile tables."""
    c = rural3.connections
    assert (c.base_kw > 0).all()
    assert all(name.endswith("_pload") for name in c.profile)
    assert all(name.endswith("_qload") for name in c.reactive_profile)
    assert not any(name.startswith(("HLS_", "APLS_", "Air_", "Soil_")) for name in c.profile)


def test_no_load_voltage_is_raised_by_the_tap(rural3):
    """1.025 / 0.975 = 1.0513 p.u.: one step of 2.5 % fewer turns at 20 kV."""
    idle = np.zeros((118, 1))
    v_pu = check(rural3.feeder, rural3.connections.bus, idle, idle).v_pu[:, 0]
    low_voltage = rural3.feeder.buses.v_nominal_v < 1000
    assert rural3.feeder.source_v_pu == 1.025
    assert v_pu[low_voltage] == pytest.approx(1.0513, abs=5e-5)
    transformer = int(np.flatnonzero(~rural3.feeder.branches.is_line)[0])
    branches = rural3.feeder.branches
    assert (branches.tap_side[transformer], branches.tap_position[transformer], branches.clock[transformer]) == (
        "from",
        -1,
        5,
    )


def test_coordinates_are_metres(rural3):
    """Distances are those on the globe between the degrees of the data."""
    buses = rural3.feeder.buses
    pair = ("LV3.101 Bus 1", "LV3.101 Bus 50")
    tables = module._tables(parse_code("1-LV-rural3--2-no_sw"))
    place = {row["id"]: (float(row["x"]), float(row["y"])) for row in tables["Coordinates"]}
    node = {row["id"]: place[row["coordID"]] for row in tables["Node"] if row["coordID"] != "NULL"}
    one, other = (buses.ids.index(name) for name in pair)
    (lon_1, lat_1), (lon_2, lat_2) = (np.radians(node[name]) for name in pair)
    haversine = np.sin((lat_2 - lat_1) / 2) ** 2 + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    metres = 2 * 6_371_008.8 * np.arcsin(np.sqrt(haversine))
    assert metres > 50
    assert np.hypot(buses.x[one] - buses.x[other], buses.y[one] - buses.y[other]) == pytest.approx(metres, rel=1e-4)
    assert abs(np.mean(buses.x)) < 1.0  # the middle of the map
    assert (buses.x[other] > buses.x[one]) == (lon_2 > lon_1)
    assert (buses.y[other] > buses.y[one]) == (lat_2 > lat_1)


def test_the_licence_of_simbench_data_is_named(rural3):
    """ODbL, with the version that was read."""
    assert "ODbL" in rural3.licence
    assert "SimBench 1." in rural3.provenance
    assert "1-LV-rural3--2-no_sw" in rural3.provenance


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("scenario", [0, 1, 2])
def test_all_low_voltage_codes_can_be_read(grid, scenario):
    """Radial, checked, and alike with and without switches."""
    bare, drawn = (read_simbench(f"1-LV-{grid}--{scenario}-{switches}") for switches in ("no_sw", "sw"))
    assert bare.feeder.buses.ids == drawn.feeder.buses.ids
    assert bare.feeder.branches.ids == drawn.feeder.branches.ids
    assert bare.connections.id == drawn.connections.id
    assert len(set(bare.connections.id)) == len(bare.connections)
    assert (bare.connections.base_kw > 0).all()


# --- against SimBench's own converter ---------------------------------------------------------------------------------


def test_buses_and_bounds_are_those_of_the_converter(both):
    """Names, nominal voltages, voltage bounds and the source."""
    grid, net = both
    index = {name: k for k, name in enumerate(net.bus.name)}
    order = [index[name] for name in grid.feeder.buses.ids]
    assert len(order) == len(net.bus)
    assert np.array_equal(grid.feeder.buses.v_nominal_v, net.bus.vn_kv.to_numpy()[order] * 1e3)
    assert np.array_equal(grid.limits.v_min_pu, net.bus.min_vm_pu.to_numpy()[order])
    assert np.array_equal(grid.limits.v_max_pu, net.bus.max_vm_pu.to_numpy()[order])
    assert grid.feeder.source_v_pu == net.ext_grid.vm_pu.item()
    assert grid.feeder.buses.ids[grid.feeder.source_bus] == net.bus.name[net.ext_grid.bus.item()]


def test_lines_are_those_of_the_converter(both):
    """Impedance, capacitance, rating and ends of every line, by name."""
    grid, net = both
    branches, rows = grid.feeder.branches, net.line.set_index("name")
    for k in np.flatnonzero(branches.is_line):
        row = rows.loc[branches.ids[k]]
        assert branches.r1_ohm[k] == pytest.approx(row.r_ohm_per_km * row.length_km, rel=1e-12)
        assert branches.x1_ohm[k] == pytest.approx(row.x_ohm_per_km * row.length_km, rel=1e-12)
        assert branches.c1_nf[k] == pytest.approx(row.c_nf_per_km * row.length_km, rel=1e-6)
        assert branches.rating_a[k] == pytest.approx(row.max_i_ka * 1e3, rel=1e-12)
        ends = {grid.feeder.buses.ids[branches.from_bus[k]], grid.feeder.buses.ids[branches.to_bus[k]]}
        assert ends == {net.bus.name[row.from_bus], net.bus.name[row.to_bus]}
    assert branches.is_line.sum() == len(net.line)


def test_transformer_is_that_of_the_converter(both):
    """Rated power and voltages, losses, short-circuit voltage, tap and clock."""
    grid, net = both
    branches, row = grid.feeder.branches, net.trafo.iloc[0]
    (k,) = np.flatnonzero(~branches.is_line)
    assert branches.sn_kva[k] == pytest.approx(row.sn_mva * 1e3)
    assert branches.pk_kw[k] == pytest.approx(row.vkr_percent / 100 * row.sn_mva * 1e3, rel=1e-9)
    assert (branches.uk_percent[k], branches.p0_kw[k], branches.i0_percent[k]) == (
        row.vk_percent,
        row.pfe_kw,
        row.i0_percent,
    )
    assert (branches.v_from_v[k], branches.v_to_v[k]) == (row.vn_hv_kv * 1e3, row.vn_lv_kv * 1e3)
    assert branches.clock[k] * 30 == row.shift_degree
    assert {"from": "hv", "to": "lv"}[branches.tap_side[k]] == row.tap_side
    assert (branches.tap_position[k], branches.tap_step_percent[k]) == (
        row.tap_pos - row.tap_neutral,
        row.tap_step_percent,
    )


def test_power_of_every_bus_is_that_of_the_converter(both):
    """Loads, heat pumps, cars, PV and batteries sum to the tables, bus by bus: nothing is lost."""
    grid, net = both
    c = grid.connections

    def theirs(rows, column, sign=1e3):
        return (rows.groupby(net.bus.name[rows.bus].to_numpy())[column].sum() * sign).to_dict()

    car = net.load.profile.str.match("HLS_|APLS_")
    pump = net.load.profile.str.match("Air_|Soil_")
    _same(_by_bus(grid, c.base_kw), theirs(net.load[~car & ~pump], "p_mw"))
    _same(_by_bus(grid, c.base_kvar), theirs(net.load[~car & ~pump], "q_mvar"))
    _same(_by_bus(grid, c.heat_pump_kw), theirs(net.load[pump], "p_mw"))
    _same(_by_bus(grid, c.heat_pump_kvar), theirs(net.load[pump], "q_mvar"))
    _same(_by_bus(grid, c.ev_kw), theirs(net.load[car], "p_mw"))
    _same(_by_bus(grid, c.battery_kw), theirs(net.storage, "p_mw", -1e3))
    _same(_by_bus(grid, c.battery_kwh), theirs(net.storage, "max_e_mwh"))
    pv = _by_bus(grid, c.pv_kw_peak - c.battery_kw)
    _same(pv, theirs(net.sgen, "p_mw"))
    assert c.ev_count.sum() == car.sum()


def test_voltages_are_those_of_pandapower(both):
    """No load, then everything at nameplate: power-grid-model on our feeder agrees with pandapower on its own to 1e-8."""
    import pandapower

    grid, net = both
    c = grid.connections
    for share in (0.0, 0.4):
        for table in ("load", "sgen"):
            net[table]["scaling"] = share
        net.storage["scaling"] = 0.0
        pandapower.runpp(net, trafo_model="pi", tolerance_mva=1e-10, numba=False)
        kw = share * (c.base_kw + c.heat_pump_kw + c.ev_kw - (c.pv_kw_peak - c.battery_kw))
        kvar = share * (c.base_kvar + c.heat_pump_kvar)
        cars = net.load.profile.str.match("HLS_|APLS_")
        net.load.loc[cars, "q_mvar"] = 0.0  # their reactive profile is zero
        pandapower.runpp(net, trafo_model="pi", tolerance_mva=1e-10, numba=False)
        v_pu = check(grid.feeder, c.bus, kw[:, None], kvar[:, None]).v_pu[:, 0]
        theirs = dict(zip(net.bus.name, net.res_bus.vm_pu, strict=True))
        assert v_pu == pytest.approx([theirs[name] for name in grid.feeder.buses.ids], abs=1e-8)


def test_comparison_would_notice_the_forgotten_tap(rural3):
    """The trap the comparison is there for: without the tap, voltages are off by 0.026 p.u."""
    from dataclasses import replace

    idle = np.zeros((118, 1))
    branches = rural3.feeder.branches
    forgotten = replace(rural3.feeder, branches=replace(branches, tap_position=np.zeros(rural3.feeder.n_branch)))
    right, wrong = (check(feeder, rural3.connections.bus, idle, idle).v_pu for feeder in (rural3.feeder, forgotten))
    assert np.abs(right - wrong).max() == pytest.approx(0.0263, abs=1e-4)


# --- how it is read ---------------------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_from_code_to_profiles():
    """Feeder and profiles of SimBench without pandas, pandapower, simbench, pvlib, scipy or networkx."""
    program = f"""
import sys
import numpy as np
from network.sources import read
from sim.profiles import simbench_profiles
grid = read({RURAL3!r})
store = simbench_profiles("1-LV-rural3--2-no_sw")
store.window(store.index(grid.connections.profile), np.datetime64("2016-07-18T10:00"), 672)
print(sorted({{"pandas", "pandapower", "simbench", "pvlib", "scipy", "networkx", "numba"}} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("1-MV-rural--0-no_sw", "not a low-voltage grid"),
        ("1-MVLV-rural-1.108-1-no_sw", "not a low-voltage grid"),
        ("1-HV-mixed--0-sw", "not a low-voltage grid"),
        ("1-complete_data-mixed-all-0-sw", "not a low-voltage grid"),
        ("1-LV-rural4--2-no_sw", "1-LV-rural"),
        ("1-LV-rural3--3-no_sw", "Did you mean 1-LV-rural3--"),
        ("1-LV-rural3-2-no_sw", "Did you mean 1-LV-rural3--2-no_sw"),
        ("", "is not a SimBench code"),
    ],
)
def test_other_codes_are_refused_with_a_sentence(code, sentence):
    """A code that is no low-voltage grid says so and names one that is."""
    with pytest.raises(SourceError, match=sentence):
        read(f"simbench:{code}")


def test_missing_simbench_is_told(monkeypatch):
    """Without the package: how to get it."""

    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", nothing)
    with pytest.raises(SourceError, match="pip install simbench"):
        read(RURAL3)


def test_package_without_tables_is_told(monkeypatch, tmp_path):
    """An installation whose data is gone: reinstall."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match="Reinstall"):
        read(RURAL3)


def _tables(monkeypatch, change):
    code = parse_code("1-LV-rural1--2-no_sw")
    tables = module._tables(code)
    change(tables)
    monkeypatch.setattr(module, "_tables", lambda _: tables)
    return f"simbench:{code.text}"


def test_open_switch_is_not_taken_for_closed(monkeypatch):
    """Data that is not as foreseen is refused, not guessed at."""
    spec = _tables(monkeypatch, lambda tables: tables["Switch"][0].update(cond="0"))
    with pytest.raises(SourceError, match="is open"):
        read(spec)


def test_second_line_between_two_buses_is_a_loop(monkeypatch):
    """What closes a loop is named by the feeder's own check."""
    spec = _tables(monkeypatch, lambda tables: tables["Line"].append({**tables["Line"][0], "id": "again"}))
    with pytest.raises(FeederError, match="again"):
        read(spec)


def test_wind_at_low_voltage_is_not_taken_for_sun(monkeypatch):
    """A generator that is no PV is refused."""
    spec = _tables(monkeypatch, lambda tables: tables["RES"][0].update(type="Wind"))
    with pytest.raises(SourceError, match="type Wind"):
        read(spec)


def test_source_that_is_none_is_told(tmp_path):
    """Neither a code, nor a file, nor a folder: what there is to choose from."""
    (tmp_path / "feeder.txt").write_text("hello")
    for spec, sentence in (
        (tmp_path / "no", "does not exist"),
        (tmp_path / "feeder.txt", "no JSON file and no folder"),
    ):
        with pytest.raises(SourceError, match=sentence) as caught:
            read(spec)
        assert "simbench:CODE" in str(caught.value)


# --- whose is what ----------------------------------------------------------------------------------------------------


def test_devices_go_to_the_loads_of_their_bus_in_order():
    """Two homes on one bus, two PV plants: one each."""
    c = connect(
        [
            Device("pv", "S1", 3, 5.0, profile="PV1"),
            Device("base", "A", 3, 1.0, 0.2, profile="p", reactive_profile="q"),
            Device("base", "B", 3, 2.0),
            Device("pv", "S2", 3, 7.0, profile="PV2"),
        ]
    )
    assert c.id == ("A", "B")
    assert c.pv_kw_peak.tolist() == [5.0, 7.0]
    assert c.pv_profile == ("PV1", "PV2")
    assert (c.profile, c.reactive_profile, c.base_kvar.tolist()) == (("p", ""), ("q", ""), [0.2, 0.0])


def test_second_car_of_a_home_adds_to_the_first():
    """Ratings add up, the larger car's profile stays, whichever comes first."""
    cars = [Device("ev", "E1", 0, 3.7, profile="slow"), Device("ev", "E2", 0, 11.0, profile="fast")]
    for order in (cars, cars[::-1]):
        c = connect([Device("base", "A", 0, 1.0), *order])
        assert (c.id, c.ev_count.tolist(), c.ev_profile) == (("A",), [2], ("fast",))
        assert c.ev_kw.tolist() == pytest.approx([14.7])


def test_second_plant_with_another_profile_is_a_connection_of_its_own():
    """What cannot be told by one profile stays apart; what can adds up."""
    base = Device("base", "A", 0, 1.0)
    south, east = Device("pv", "S", 0, 5.0, profile="PV1"), Device("pv", "E", 0, 3.0, profile="PV2")
    apart = connect([base, south, east])
    assert (apart.id, apart.pv_kw_peak.tolist(), apart.base_kw.tolist()) == (("A", "E"), [5.0, 3.0], [1.0, 0.0])
    assert connect([base, south, south]).pv_kw_peak.tolist() == [10.0]


def test_device_at_an_empty_bus_is_a_connection():
    """PV and battery without a home stand together, on their own bus."""
    c = connect([Device("base", "A", 0, 1.0), Device("pv", "S", 1, 5.0), Device("battery", "S", 1, 5.0, kwh=10.0)])
    assert (c.id, c.bus.tolist()) == (("A", "S"), [0, 1])
    assert (c.pv_kw_peak.tolist(), c.battery_kwh.tolist()) == ([0.0, 5.0], [0.0, 10.0])


def test_grid_without_anyone_has_no_rows():
    """No device, no connection, and the columns are there."""
    c = connect([])
    assert len(c) == 0
    assert c.base_kw.shape == (0,)
    assert c.profiles == ()
