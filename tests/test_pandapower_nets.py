"""Networks of pandapower: read, calculated by another program, and refused where they have no place here."""

from __future__ import annotations

import json
import random
import warnings

import numpy as np
import pytest

from network.acflow import Model
from network.feeder import FeederError
from network.pandapower_nets import grid_of
from network.referee import check
from network.sources import SourceError, read

pandapower = pytest.importorskip("pandapower")

AGREE = [
    "case33bw",
    "create_cigre_network_lv",
    "create_kerber_landnetz_freileitung_1",
    "create_kerber_dorfnetz",
    "create_synthetic_voltage_control_lv_network",
]


@pytest.fixture
def net():
    """A 20/0.4 kV station, three buses, two homes."""
    net = pandapower.create_empty_network()
    top, low, bend, end = (
        pandapower.create_bus(net, kv, name=name)
        for kv, name in ((20, "top"), (0.4, "low"), (0.4, "bend"), (0.4, "end"))
    )
    pandapower.create_ext_grid(net, top, vm_pu=1.02)
    pandapower.create_transformer_from_parameters(
        net, top, low, sn_mva=0.25, vn_hv_kv=20, vn_lv_kv=0.4, vk_percent=4, vkr_percent=1.3, pfe_kw=0.6, i0_percent=0.3,
        shift_degree=150, tap_side="hv", tap_neutral=0, tap_min=-2, tap_max=2, tap_step_percent=2.5, tap_pos=-1, name="station",
    )  # fmt: skip
    for start, stop, name in ((low, bend, "first"), (bend, end, "second")):
        pandapower.create_line_from_parameters(
            net,
            start,
            stop,
            length_km=0.1,
            r_ohm_per_km=0.2,
            x_ohm_per_km=0.08,
            c_nf_per_km=260,
            max_i_ka=0.27,
            name=name,
        )
    pandapower.create_load(net, bend, p_mw=0.02, q_mvar=0.005, name="miller")
    pandapower.create_load(net, end, p_mw=0.01, scaling=0.5, name="farmer")
    return net


def _grid(net):
    return grid_of(net, name="test", provenance="", licence="")


def _nameplate_flow(grid):
    c = grid.connections
    kw = c.base_kw + c.heat_pump_kw + c.ev_kw - c.pv_kw_peak
    return check(grid.feeder, c.bus, kw[:, None], (c.base_kvar + c.heat_pump_kvar)[:, None])


# --- read -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGREE)
def test_voltages_are_those_of_pandapower(name):
    """power-grid-model on our feeder agrees with pandapower on its own network."""
    import pandapower.networks

    random.seed(0)  # Kerber's networks draw their cables
    grid, net = read(f"pandapower:{name}"), getattr(pandapower.networks, name)()
    net.trafo["tap_changer_type"] = "Ratio"
    pandapower.runpp(net, trafo_model="pi", tolerance_mva=1e-10, numba=False)
    joined = net.switch[(net.switch.et == "b") & net.switch.closed].element  # they take the name of the other bus
    theirs = net.res_bus.vm_pu.drop(joined)
    assert _nameplate_flow(grid).v_pu[:, 0] == pytest.approx(theirs.to_numpy(), abs=1e-6)


def test_networks_that_draw_their_cables_are_the_same_every_time():
    """Two readings of a Kerber network agree, whatever was drawn before, and nobody else's draws move."""
    first = read("pandapower:create_kerber_dorfnetz").feeder.branches
    random.seed(7)
    expected = random.Random(7).random()
    second = read("pandapower:create_kerber_dorfnetz").feeder.branches

    assert random.random() == expected
    np.testing.assert_array_equal(first.r1_ohm, second.r1_ohm)


def test_line_open_at_one_end_loses_its_charging_current():
    """What that costs in a 10 kV cable ring: less than 3e-4 p.u., and more than nothing."""
    import pandapower.networks

    grid, net = read("pandapower:simple_mv_open_ring_net"), pandapower.networks.simple_mv_open_ring_net()
    pandapower.runpp(net, trafo_model="pi", tolerance_mva=1e-10, numba=False)
    away = np.abs(_nameplate_flow(grid).v_pu[:, 0] - net.res_bus.vm_pu.to_numpy()).max()
    assert 1e-6 < away < 3e-4


def test_case33bw_has_the_losses_of_the_literature():
    """Baran and Wu 1989: 202.677 kW, 135.141 kvar, 0.91309 p.u. at bus 18 (counted from 1)."""
    grid = read("pandapower:case33bw")
    flow = _nameplate_flow(grid)
    assert flow.loss_kw.sum() == pytest.approx(202.677, abs=5e-4)
    assert flow.source_kvar[0] - grid.connections.base_kvar.sum() == pytest.approx(135.141, abs=5e-4)
    assert flow.v_pu[:, 0].min() == pytest.approx(0.91309, abs=5e-6)
    assert int(flow.v_pu[:, 0].argmin()) == 17
    assert (~grid.feeder.branches.in_service).sum() == 5  # the ties
    assert np.isinf(grid.feeder.branches.rating_a).all()  # 99999 kA is no rating


def test_columns_have_the_units_of_a_feeder(net):
    """Volt, ohm, ampere, kW; scaling counts; names stay."""
    grid = _grid(net)
    branches, c = grid.feeder.branches, grid.connections
    assert branches.ids == ("station", "first", "second")
    assert branches.r1_ohm[1] == pytest.approx(0.02)
    assert (branches.c1_nf[1], branches.rating_a[1], branches.length_m[1]) == pytest.approx((26.0, 270.0, 100.0))
    assert (branches.sn_kva[0], branches.pk_kw[0], branches.p0_kw[0], branches.clock[0]) == pytest.approx(
        (250.0, 3.25, 0.6, 5)
    )
    assert (c.id, c.base_kw.tolist(), c.base_kvar.tolist()) == (("miller", "farmer"), [20.0, 5.0], [5.0, 0.0])
    assert c.profile == ("", "")


@pytest.mark.parametrize("kind", [None, float("nan"), "Ratio"])
def test_tap_counts_whatever_its_type_is_called(net, kind):
    """The trap of pandapower 3: without a type it ignores the tap; we do not."""
    net.trafo["tap_changer_type"] = kind
    grid = _grid(net)
    assert (grid.feeder.branches.tap_side[0], grid.feeder.branches.tap_position[0]) == ("from", -1)
    idle = np.zeros((2, 1))
    v_pu = check(grid.feeder, grid.connections.bus, idle, idle).v_pu[:, 0]
    assert v_pu[1] == pytest.approx(1.02 / 0.975, abs=2e-3)


def test_parallel_elements_are_one_stronger_one(net):
    """Two lines side by side: half the impedance, twice the rating; two transformers: twice the power and losses."""
    net.line.loc[0, "parallel"] = 2
    net.trafo.loc[0, "parallel"] = 2
    branches = _grid(net).feeder.branches
    assert (branches.r1_ohm[1], branches.c1_nf[1], branches.rating_a[1]) == pytest.approx((0.01, 52.0, 540.0))
    assert (branches.sn_kva[0], branches.pk_kw[0], branches.p0_kw[0]) == pytest.approx((500.0, 6.5, 1.2))


def test_closed_switch_between_buses_joins_them(net):
    """Two halves of a busbar are one bus, under the name of the first."""
    half = pandapower.create_bus(net, 0.4, name="half")
    pandapower.create_switch(net, 1, half, et="b", closed=True)
    pandapower.create_load(net, half, p_mw=0.003, name="smith")
    grid = _grid(net)
    assert grid.feeder.buses.ids == ("top", "low", "bend", "end")
    assert grid.feeder.buses.ids[grid.connections.bus[2]] == "low"


def test_open_switch_takes_a_line_out_of_service(net):
    """A ring that a switch opens is radial; closed, it is refused with the name of the line."""
    pandapower.create_line_from_parameters(net, 1, 3, 0.2, 0.2, 0.08, 260, 0.27, name="ring")
    switch = pandapower.create_switch(net, 3, 2, et="l", closed=False)
    assert _grid(net).feeder.branches.in_service.tolist() == [True, True, True, False]
    net.switch.loc[switch, "closed"] = True
    with pytest.raises(FeederError, match="closes a loop"):
        _grid(net)


def test_what_is_out_of_service_is_left_out(net):
    """Buses out of service vanish with their lines and loads; lines out of service stay, open."""
    away = pandapower.create_bus(net, 0.4, name="away", in_service=False)
    pandapower.create_line_from_parameters(net, 3, away, 0.2, 0.2, 0.08, 260, 0.27, name="to away")
    pandapower.create_load(net, away, p_mw=0.1)
    net.load.loc[1, "in_service"] = False
    grid = _grid(net)
    assert "away" not in grid.feeder.buses.ids
    assert "to away" not in grid.feeder.branches.ids
    assert grid.connections.id == ("miller",)


def test_bus_without_supply_is_named(net):
    """An island is a mistake of the network."""
    pandapower.create_bus(net, 0.4, name="island")
    with pytest.raises(FeederError, match="island"):
        _grid(net)


def test_sun_and_storage_become_devices(net):
    """PV by its type, a battery with its power and energy, at the home of their bus."""
    pandapower.create_sgen(net, 2, p_mw=0.01, type="PV")
    pandapower.create_storage(net, 2, p_mw=0.0, max_e_mwh=0.012, sn_mva=0.006)
    c = _grid(net).connections
    assert c.id == ("miller", "farmer")
    assert (c.pv_kw_peak.tolist(), c.battery_kw.tolist(), c.battery_kwh.tolist()) == (
        [10.0, 0.0],
        [6.0, 0.0],
        [12.0, 0.0],
    )


def test_names_that_are_not_unique_give_way_to_numbers(net):
    """Ids are unique even where the names are not."""
    net.load["name"] = "home"
    net.bus.loc[2, "name"] = None
    grid = _grid(net)
    assert grid.connections.id == ("load 0", "load 1")
    assert grid.feeder.buses.ids == ("bus 0", "bus 1", "bus 2", "bus 3")


def test_susceptance_of_a_60_hz_network_is_kept(net):
    """Feeders are at 50 Hz: 26 nF at 60 Hz draw what 31.2 nF draw at 50 Hz."""
    net.f_hz = 60.0
    assert _grid(net).feeder.branches.c1_nf[1] == pytest.approx(31.2)


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_gives_the_same_grid(net, tmp_path):
    """Saved and read again."""
    pandapower.to_json(net, str(tmp_path / "town.json"))
    ours, theirs = read(tmp_path / "town.json"), _grid(net)
    assert ours.feeder.name == "town"
    assert ours.feeder.branches.ids == theirs.feeder.branches.ids
    assert ours.connections.base_kw.tolist() == theirs.connections.base_kw.tolist()


@pytest.mark.slow
def test_json_of_a_simbench_grid_is_the_simbench_grid(tmp_path):
    """Through SimBench's converter and pandapower's JSON comes what the tables say, cars and heat pumps included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        net = simbench.get_simbench_net("1-LV-rural3--2-no_sw")
    del net["profiles"]
    pandapower.to_json(net, str(tmp_path / "rural3.json"))
    ours, direct = read(tmp_path / "rural3.json"), read("simbench:1-LV-rural3--2-no_sw")
    assert set(ours.connections.id) == set(direct.connections.id)
    order = [ours.connections.id.index(name) for name in direct.connections.id]
    for column in ("base_kw", "heat_pump_kw", "ev_kw", "pv_kw_peak", "battery_kw", "battery_kwh"):
        assert getattr(ours.connections, column)[order] == pytest.approx(getattr(direct.connections, column), abs=1e-9)
    assert [ours.connections.pv_profile[k] for k in order] == list(direct.connections.pv_profile)
    assert np.array_equal(np.sort(ours.feeder.branches.r1_ohm), np.sort(direct.feeder.branches.r1_ohm), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "odd.json:1:1: this is no JSON: Expecting value."),
        ('{\n "a" 1}', "odd.json:2:6: this is no JSON: Expecting ':' delimiter."),
        *[
            (text, "odd.json: the file holds no pandapower network. Save one with pandapower.to_json(net, path).")
            for text in ("{}", "[]", '{"a": 1}', '"hello"', "null", "3")
        ],
    ],
)
def test_json_that_is_no_network_is_refused(tmp_path, text, sentence):
    """Broken or foreign JSON is one sentence about the file, in nobody's inner words."""
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "odd.json")
    assert caught.value.mistakes == (sentence,)


def test_shunts_are_those_of_pandapower(net):
    """Two steps of a capacitor rated for another voltage and a reactor with losses: every voltage to 1e-8 pu of pandapower's own."""
    last = int(net.bus.index[-1])
    pandapower.create_shunt(net, 1, q_mvar=-0.02, vn_kv=0.42, step=2, max_step=2)
    pandapower.create_shunt(net, last, q_mvar=0.01, p_mw=0.002)
    pandapower.create_shunt(net, last, q_mvar=0.5, in_service=False)
    net.trafo["tap_pos"] = 0  # pandapower leaves taps out where no type of theirs is told
    pandapower.runpp(net, tolerance_mva=1e-12, trafo_model="pi")
    grid = _grid(net)
    assert len(grid.feeder.buses.shunted) == 2
    c = grid.connections
    flow = Model(grid.feeder, c.bus).solve(c.pv_kw_peak[:, None] - c.base_kw[:, None], -c.base_kvar[:, None])
    np.testing.assert_allclose(flow.v_pu[:, 0], net.res_bus.vm_pu.to_numpy(), rtol=0, atol=1e-8)


# --- refused ----------------------------------------------------------------------------------------------------------


def _shunt(net):
    pandapower.create_shunt(net, 1, q_mvar=0.01)
    net.shunt["step_dependency_table"] = True


def _ward(net):
    pandapower.create_ward(net, 1, 0.01, 0, 0, 0)


def _second_source(net):
    pandapower.create_ext_grid(net, 3)


def _no_source(net):
    net.ext_grid["in_service"] = False


def _source_switched_off(net):
    net.bus.loc[0, "in_service"] = False


def _single_phase(net):
    pandapower.create_asymmetric_load(net, 2, p_a_mw=0.01)


def _holding_voltage(net):
    pandapower.create_gen(net, 3, p_mw=0.01, vm_pu=1.0)


def _impedance(net):
    pandapower.create_impedance(net, 2, 3, 0.01, 0.01, 1.0)


def _motor(net):
    pandapower.create_motor(net, 3, 0.01, 0.9)


def _zip_load(net):
    net.load["const_z_p_percent"] = 50.0


def _negative_load(net):
    net.load.loc[0, "p_mw"] = -0.01


def _wind(net):
    pandapower.create_sgen(net, 2, p_mw=0.01, type="WP")


def _reactive_sun(net):
    pandapower.create_sgen(net, 2, p_mw=0.01, q_mvar=0.002, type="PV")


def _odd_shift(net):
    net.trafo["shift_degree"] = 145.0


def _phase_shifter(net):
    net.trafo["tap_changer_type"] = "Ideal"
    net.trafo["tap_step_degree"] = 2.0


def _conductance(net):
    net.line["g_us_per_km"] = 1.0


def _switch_with_impedance(net):
    half = pandapower.create_bus(net, 0.4)
    pandapower.create_switch(net, 1, half, et="b", closed=True, z_ohm=0.1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_shunt, "shunts with a table of their steps"),
        (_ward, "ward equivalents"),
        (_second_source, "2 external grids"),
        (_no_source, "0 external grids"),
        (_source_switched_off, "out of service"),
        (_single_phase, "lines without r0_ohm_per_km"),
        (_holding_voltage, "generators that hold a voltage"),
        (_impedance, "impedance elements"),
        (_motor, "motors"),
        (_zip_load, "depends on the voltage"),
        (_negative_load, "with negative power"),
        (_wind, "that are not PV"),
        (_reactive_sun, "with reactive power"),
        (_odd_shift, "no clock number"),
        (_phase_shifter, "turn the phase"),
        (_conductance, "shunt conductance"),
        (_switch_with_impedance, "switches with an impedance"),
    ],
)
def test_what_has_no_place_is_refused_with_a_sentence(net, change, sentence):
    """One sentence for each kind, and none of it is left out silently."""
    _grid(net)  # without it, the network can be read
    change(net)
    with pytest.raises(SourceError, match=sentence) as caught:
        _grid(net)
    assert len(caught.value.mistakes) == 1


def test_three_winding_transformer_is_refused():
    """The example of all voltage levels: every kind that has no place is named at once."""
    with pytest.raises(SourceError, match="three-winding") as caught:
        read("pandapower:example_multivoltage")
    assert len(caught.value.mistakes) >= 5


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("create_kerber_landnetz_kabel", "Did you mean create_kerber_landnetz_kabel_"),
        ("deepcopy", "has no function"),
        ("create_empty_network", "has no function"),
        ("__name__", "has no function"),
        ("create_dickert_lv_feeders", "without arguments"),
        ("mv_oberrhein", "2 external grids"),
    ],
)
def test_functions_that_give_no_feeder_are_refused(name, sentence):
    """Unknown names, helpers, and networks without a place here."""
    with pytest.raises(SourceError, match=sentence):
        read(f"pandapower:{name}")


@pytest.mark.parametrize("name", ["create_foo", "create_empty", "sorted_from_jso", "case"])
def test_only_networks_are_suggested(name):
    """What is proposed instead of an unknown name is a network, not a helper of pandapower's."""
    with pytest.raises(SourceError) as caught:
        read(f"pandapower:{name}")
    (mistake,) = caught.value.mistakes
    for suggested in mistake.partition("Did you mean ")[2].rstrip("?").split(" or "):
        assert not suggested or suggested.startswith("case")
    assert "case" in mistake.partition(". ")[2]


def test_file_of_a_newer_or_broken_kind_is_told(tmp_path):
    """A pandapower file whose content lost a table says so."""
    (tmp_path / "half.json").write_text(
        json.dumps({"_module": "pandapower.auxiliary", "_class": "pandapowerNet", "_object": {}})
    )
    with pytest.raises(SourceError):
        read(tmp_path / "half.json")


# --- three phases -----------------------------------------------------------------------------------------------------


def _street(**of_trafo):
    """A Dyn transformer without a magnetising path and two cables with zero sequences; four customers on single phases, one in all three, one sun."""
    net = pandapower.create_empty_network()
    hv, busbar, near, far = (pandapower.create_bus(net, kv) for kv in (10.0, 0.4, 0.4, 0.4))
    pandapower.create_ext_grid(net, hv, vm_pu=1.02, s_sc_max_mva=1e7, rx_max=0.1, r0x0_max=0.1, x0x_max=1.0)
    given = {"sn_mva": 0.4, "vn_hv_kv": 10.0, "vn_lv_kv": 0.4, "vk_percent": 4.0, "vkr_percent": 1.2, "pfe_kw": 0.0, "i0_percent": 0.0,
             "shift_degree": 30.0, "vector_group": "Dyn", "vk0_percent": 4.0, "vkr0_percent": 1.2, "mag0_percent": 1e8,
             "mag0_rx": 0.0, "si0_hv_partial": 0.9}  # fmt: skip
    pandapower.create_transformer_from_parameters(net, hv, busbar, **{**given, **of_trafo})
    for one, other, km in ((busbar, near, 0.2), (near, far, 0.35)):
        pandapower.create_line_from_parameters(
            net, one, other, km, r_ohm_per_km=0.32, x_ohm_per_km=0.08, c_nf_per_km=200.0, max_i_ka=0.2, r0_ohm_per_km=1.1,
            x0_ohm_per_km=0.3, c0_nf_per_km=120.0, endtemp_degree=80.0,
        )  # fmt: skip
    pandapower.create_asymmetric_load(net, near, p_a_mw=0.006, q_a_mvar=0.002, name="anna")
    pandapower.create_asymmetric_load(net, far, p_b_mw=0.004, p_c_mw=0.009, q_c_mvar=0.001, name="bert", scaling=1.1)
    pandapower.create_asymmetric_sgen(net, far, p_b_mw=0.008, name="sun")
    pandapower.create_load(net, far, p_mw=0.012, q_mvar=0.003, name="mill")
    return net


def test_three_phase_power_flow_is_that_of_pandapower():
    """Voltages of every phase to 1e-6 pu: asymmetric loads and generators, zero sequences, a Dyn transformer."""
    net = _street()
    pandapower.runpp_3ph(net, tolerance_mva=1e-10)
    assert net.converged
    grid = grid_of(net, name="street", provenance="", licence="")
    c = grid.connections
    assert dict(zip(c.id, c.phase, strict=True)) == {"mill": "abc", "anna": "a", "bert b": "b", "bert c": "c"}
    assert c.pv_kw_peak[c.id.index("bert b")] == pytest.approx(8.0)
    flow = Model(grid.feeder, c.bus, c.phase).solve((c.pv_kw_peak - c.base_kw)[:, None], -c.base_kvar[:, None])
    theirs = net.res_bus_3ph[["vm_a_pu", "vm_b_pu", "vm_c_pu"]].to_numpy()[1:]
    assert np.isfinite(theirs).all()
    np.testing.assert_allclose(flow.v_pu.reshape(4, 3)[1:], theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: _street(vector_group="Yzn"), "vector group"),
        (lambda: _street(vk0_percent=3.0), "vk0_percent"),
        (lambda: _changed("asymmetric_load", "type", "delta"), "between two phases"),
        (lambda: _changed("asymmetric_load", "p_a_mw", -0.001), "negative power"),
        (lambda: _changed("asymmetric_sgen", "q_b_mvar", 0.001), "reactive power"),
        (lambda: _changed("line", "r0_ohm_per_km", np.nan), "without r0_ohm_per_km"),
    ],
)
def test_what_cannot_be_three_phase_is_refused(change, sentence):
    """A vector group, a zero sequence or a customer that is calculated otherwise is refused with a sentence."""
    with pytest.raises(SourceError, match=sentence) as caught:
        grid_of(change(), name="street", provenance="", licence="")
    assert len(caught.value.mistakes) == 1


def _changed(table, name, value):
    net = _street()
    net[table].loc[0, name] = value
    return net


def test_european_lv_is_read_with_its_single_phases():
    """55 customers on phases a, b and c, and the zero sequences that the built-in feeder has."""
    ours, theirs = read("european_lv"), read("pandapower:ieee_european_lv_asymmetric")
    assert theirs.connections.phase == ours.connections.phase
    np.testing.assert_allclose(theirs.feeder.branches.r0_ohm, ours.feeder.branches.r0_ohm, rtol=1e-6)


def test_cigre_networks_are_radial():
    """CIGRE's low and medium voltage: 41 and 15 buses, the medium one with its open switches out of service."""
    low, medium = read("cigre_lv").feeder, read("cigre_mv").feeder
    assert (low.n_bus, medium.n_bus) == (41, 15)
    assert medium.branches.in_service.tolist().count(False) == 3
