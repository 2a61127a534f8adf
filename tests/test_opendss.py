"""OpenDSS: circuits read from .dss files, and OpenDSS as the second referee."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.feeder import Feeder, Line, Transformer
from network.referee import RefereeError
from network.sources import SourceError, read

STREET = Path(__file__).parent / "data_feeders" / "opendss" / "street.dss"


def test_without_opendss_a_sentence_says_what_to_install(monkeypatch):
    """Reading a file and asking the second referee name the extra that is missing."""
    from network import referee_opendss

    monkeypatch.setitem(sys.modules, "dss", None)
    with pytest.raises(SourceError, match=r"OpenDSS is not installed. Install commonwatt\[opendss\]"):
        read(STREET)
    feeder = Feeder.build("x", {"s": 400.0, "e": 400.0}, [Line("L", "s", "e", 0.1, 0.0)], source_bus="s")
    with pytest.raises(RefereeError, match=r"commonwatt\[opendss\]"):
        referee_opendss.check(feeder, [1], [[1.0]], [[0.0]])


dss = pytest.importorskip("dss", reason="OpenDSS is not installed (extra: opendss)")


@pytest.fixture
def circuit(tmp_path):
    """Read the street with one line changed, or more added."""

    def of(old="", new="", more=""):
        text = STREET.read_text()
        assert old in text
        path = tmp_path / "street.dss"
        path.write_text(text.replace(old, new, 1).replace("Open Line.tie 1", f"{more}\nOpen Line.tie 1"))
        return read(path)

    return of


def test_voltages_are_those_of_opendss():
    """Codes in other units, a matrix, single phases, taps, a load on two phases: every voltage to 1e-7 pu of OpenDSS's own."""
    engine = dss.DSS.NewContext()
    engine.AllowChangeDir = False
    for command in (f'Redirect "{STREET}"', "Set Tolerance=1e-12 MaxIterations=500", "Solve"):
        engine.Text.Command = command
    assert engine.ActiveCircuit.Solution.Converged
    theirs = dict(zip(engine.ActiveCircuit.AllNodeNames, engine.ActiveCircuit.AllBusVmag, strict=True))
    grid = read(STREET)
    c, buses = grid.connections, grid.feeder.buses
    model = Model(grid.feeder, c.bus, c.phase)
    flow = model.solve(-c.base_kw[:, None], -c.base_kvar[:, None])
    expected = [
        theirs[f"{buses.ids[bus]}.{'abc'.index(phase) + 1}"] / (buses.v_nominal_v[bus] / np.sqrt(3))
        for bus, phase in zip(model.nodes.element, model.nodes.phase, strict=True)
    ]
    assert len(expected) == len(theirs) == 14
    np.testing.assert_allclose(flow.v_pu[:, 0], expected, rtol=0, atol=1e-7)


def test_what_hangs_on_a_bus_is_that_of_opendss(tmp_path):
    """Capacitors in steps and in delta, a reactor, loads of constant impedance and current in star and delta, LoadMult: to 1e-7 pu."""
    more = """
    New Capacitor.steps bus1=end phases=3 kvar=[6 9] kV=0.416 numsteps=2 states=[1 0]
    New Capacitor.delta bus1=end phases=3 conn=delta kvar=4 kV=0.4
    New Capacitor.one bus1=busbar.2 phases=1 kvar=3 kV=0.24
    New Reactor.coil bus1=busbar phases=3 kvar=2 kV=0.416 R=0.3
    New Load.z bus1=end phases=3 kV=0.4 kW=6 kvar=2 model=2
    New Load.zd bus1=busbar.3.2 phases=1 conn=delta kV=0.416 kW=2 kvar=1 model=2
    New Load.i bus1=end phases=3 kV=0.4 kW=5 kvar=1 model=5 vminpu=0.5 vmaxpu=1.5
    New Load.pd bus1=end phases=3 conn=delta kV=0.4 kW=5 kvar=2 model=1 vminpu=0.5 vmaxpu=1.5
    New Load.id bus1=busbar.2.1 phases=1 conn=delta kV=0.4 kW=1.5 kvar=-0.5 model=5 vminpu=0.5 vmaxpu=1.5
    Set LoadMult=1.1
    """.replace("    ", "")
    path = tmp_path / "street.dss"
    path.write_text(STREET.read_text().replace("Open Line.tie 1", f"{more}\nOpen Line.tie 1"))
    engine = dss.DSS.NewContext()
    engine.AllowChangeDir = False
    for command in (f'Redirect "{path}"', "Set Tolerance=1e-12 MaxIterations=500", "Solve"):
        engine.Text.Command = command
    assert engine.ActiveCircuit.Solution.Converged
    theirs = dict(zip(engine.ActiveCircuit.AllNodeNames, engine.ActiveCircuit.AllBusVmag, strict=True))
    grid = read(path)
    c, buses = grid.connections, grid.feeder.buses
    assert [buses.ids[k] for k in buses.shunted] == ["busbar", "end"]
    assert sorted(grid.held.id) == ["i.a", "i.b", "i.c", "id", "pd.ab", "pd.bc", "pd.ca"]
    model = Model(grid.feeder, c.bus, c.phase, grid.held)
    flow = model.solve(-c.base_kw[:, None], -c.base_kvar[:, None])
    expected = [
        theirs[f"{buses.ids[bus]}.{'abc'.index(phase) + 1}"] / (buses.v_nominal_v[bus] / np.sqrt(3))
        for bus, phase in zip(model.nodes.element, model.nodes.phase, strict=True)
    ]
    np.testing.assert_allclose(flow.v_pu[:, 0], expected, rtol=0, atol=1e-7)


def test_what_the_file_says_is_what_is_read():
    """By hand: 180 m of 0.32 ohm/km, 0.6 kft of 0.42 ohm/km, an open tie, phases, ratings, and the nominal voltages."""
    grid = read(STREET)
    b, c = grid.feeder.branches, grid.connections
    row = {name: k for k, name in enumerate(b.ids)}
    assert b.r1_ohm[row["first"]] == pytest.approx(0.32 * 0.18)
    assert b.r0_ohm[row["first"]] == pytest.approx(1.1 * 0.18)
    assert b.c1_nf[row["first"]] == pytest.approx(280 * 0.18)
    assert b.z_abc_ohm[row["second"]][1, 1] == pytest.approx((0.43 + 0.76j) * 0.18288)
    assert b.c_abc_nf[row["second"]][0, 1] == pytest.approx(-2 * 0.18288)
    assert b.in_service.tolist() == [name != "tie" for name in b.ids]
    assert b.r1_ohm[row["tie"]] == pytest.approx(0.32 * 0.3)
    assert (b.phases[row["back"]], b.phases[row["service"]]) == ("b", "c")
    assert (b.rating_a[row["first"]], b.length_m[row["second"]]) == (210.0, pytest.approx(182.88))
    assert (b.clock[0], b.v_to_v[0], grid.feeder.buses.v_nominal_v[1]) == (1, pytest.approx(416 * 1.025), 416.0)
    assert dict(zip(c.id, c.phase, strict=True)) == {
        "anna": "a", "shop": "b", "cottage": "c", "mill": "abc", "pair.a": "a", "pair.b": "b"
    }  # fmt: skip
    assert c.base_kw[list(c.id).index("cottage")] == -4.0
    assert grid.feeder.source_short_circuit_va == pytest.approx(80e6, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"more": "New Capacitor.bank bus1=end.1 bus2=end.2 phases=1 kvar=10 kV=0.416"}, r"capacitors in series.* \(capacitor.bank\)"),
        ({"more": "New Transformer.t phases=1 buses=[end.1.2 x.1.2] conns=[delta delta] kvs=[0.416 0.416]"}, "single-phase transformers other"),
        ({"more": "New Transformer.t phases=1 buses=[end.1 x.1] kvs=[0.24 0.24]\nNew Transformer.u phases=1 buses=[end.1 x.1] kvs=[0.24 0.24]"},
         "side by side that share a phase"),
        ({"more": "New Generator.g bus1=end kW=3 kV=0.416"}, "generators; make them loads"),
        ({"more": "New PVSystem.p bus1=end kVA=3 Pmpp=3 kV=0.416"}, "PV systems; make them loads"),
        ({"more": "New Load.z bus1=end kV=0.416 kW=1 model=4"}, r"a model other than 1, 2 and 5 .* \(load.z\)"),
        ({"more": "New Load.d bus1=end.1.4 phases=1 kV=0.416 kW=1 conn=delta"}, r"delta loads of other than .* \(load.d\)"),
        ({"more": "New Load.n bus1=end.1.4 phases=1 kV=0.24 kW=1"}, r"a neutral of their own.* \(load.n\)"),
        ({"more": "New Vsource.second bus1=end basekV=0.416"}, "2 sources"),
        ({"old": "bus2=end.1.2.3", "new": "bus2=end.2.1.3"}, "change places"),
        ({"old": "conns=(delta wye)", "new": "conns=(wye delta)"}, "second winding is a delta"),
        ({"old": "buses=(mains busbar)", "new": "buses=(mains busbar.1.2.3.4)"}, "neutral that is not earthed"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_refused_with_a_sentence(circuit, change, sentence):
    """One sentence for each kind, with the names; none of it is left out silently."""
    with pytest.raises(SourceError, match=sentence) as caught:
        circuit(**change)
    assert len(caught.value.mistakes) == 1
    assert caught.value.mistakes[0].startswith("street.dss: ")


def test_loops_and_files_that_are_none_are_told(circuit, tmp_path):
    """A tie that is closed makes a loop; a file that is no circuit, or wrong, says so."""
    with pytest.raises(ValueError, match="closes a loop"):
        circuit(old="Open Line.tie 1\nOpen Line.tie 2", new="Open Line.tie 1\nClose Line.tie 1")
    for text, sentence in (("Clear\n", "makes no circuit"), ("New Line.a b=c\n", "OpenDSS cannot use the file")):
        path = tmp_path / "none.dss"
        path.write_text(text)
        with pytest.raises(SourceError, match=sentence):
            read(path)


@st.composite
def feeders(draw):
    """A transformer of a clock number that OpenDSS has, taps, lines of sequences and of matrices, with capacitance."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    side = draw(st.sampled_from(["", "from", "to"]))
    branches = [
        Transformer("T", "mv", "b0", 400.0, 11000.0, 416.0, 4.0, 3.0, clock=draw(st.sampled_from([0, 1, 3, 4, 5, 7, 8, 9, 11])),
                    tap_side=side, tap_position=int(rng.integers(-2, 3)) if side else 0, tap_step_percent=2.5)
    ]  # fmt: skip
    phases = {"b0": "abc"}
    for k in range(1, int(rng.integers(2, 7))):
        above = f"b{rng.integers(0, k)}"
        here = phases[above] if rng.random() < 0.6 else str(rng.choice(list(phases[above])))
        km, matrix = rng.uniform(0.02, 0.2), None
        if rng.random() < 0.5:
            mutual = rng.uniform(0.05, 0.15, (3, 3)) * km
            z = (mutual + mutual.T) / 2 * (0.5 + 1j) + np.diag(rng.uniform(0.3, 0.6, 3) * km * (1 + 0.3j))
            matrix = tuple(tuple(row) for row in z)
        branches.append(
            Line(f"L{k}", above, f"b{k}", 0.4 * km, 0.1 * km, r0_ohm=1.3 * km, x0_ohm=0.2 * km, c1_nf=rng.uniform(0, 50),
                 c0_nf=rng.uniform(0, 20), phases=here, z_abc_ohm=matrix)
        )  # fmt: skip
        phases[f"b{k}"] = here
    feeder = Feeder.build(
        "drawn", {"mv": 11000.0, **dict.fromkeys(phases, 400.0)}, branches, source_bus="mv", source_v_pu=1.02,
        source_short_circuit_va=draw(st.sampled_from([1e16, 5e7])), source_rx_ratio=0.3,
    )  # fmt: skip
    at = rng.integers(1, feeder.n_bus, int(rng.integers(1, 6)))
    on = [str(rng.choice(list(phases[feeder.buses.ids[bus]]))) for bus in at]
    on = [
        "abc" if phases[feeder.buses.ids[bus]] == "abc" and rng.random() < 0.3 else one
        for bus, one in zip(at, on, strict=True)
    ]
    return feeder, at, on, rng.uniform(-10, 10, (2, len(at), 2)) * [[[1.0]], [[0.4]]]


@settings(max_examples=25, deadline=None)
@given(feeders())
def test_the_second_referee_agrees(drawn):
    """Voltages to 1e-6 pu, currents, powers, losses and loadings too, on random three-phase feeders: clock numbers, taps, matrices, laterals, source impedances."""
    from network import referee_opendss

    feeder, at, on, (p, q) = drawn
    theirs = referee_opendss.check(feeder, at, -p, -q, connection_phase=on)
    ours = Model(feeder, at, on)
    assert theirs.converged.all()
    found = ours.solve(p, q)
    size = float(np.abs(p).sum())
    for name in ("v_pu", "p_kw", "q_kvar", "loss_kw", "current_a", "loading_percent"):
        mine, share = getattr(found, name), 3.0 if name in ("p_kw", "q_kvar", "loss_kw") else 1.0
        if not ours.three_phase:
            mine = np.repeat(mine / share, 3, axis=0)
        tolerance = 1e-6 if name == "v_pu" else 1e-6 * size
        np.testing.assert_allclose(getattr(theirs, name), mine, rtol=1e-6, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(theirs.source_kw, found.source_kw, rtol=0, atol=1e-6 * size)


def test_every_moment_may_have_its_own_source_voltage():
    """Three moments at 0.97, 1.0 and 1.04 p.u. are three circuits of one moment each."""
    from network import referee_opendss

    feeder = Feeder.build("x", {"s": 400.0, "e": 400.0}, [Line("L", "s", "e", 0.1, 0.05)], source_bus="s")
    p, volts = np.array([[3.0, -4.0, 5.0]]), (0.97, 1.0, 1.04)
    together = referee_opendss.check(feeder, [1], p, p * 0.2, volts)
    for k, v in enumerate(volts):
        alone = referee_opendss.check(feeder, [1], p[:, [k]], p[:, [k]] * 0.2, v)
        np.testing.assert_allclose(together.v_pu[:, k], alone.v_pu[:, 0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(alone.v_pu[0, 0], v, rtol=0, atol=1e-6)


def test_what_opendss_is_not_asked_is_told():
    """A clock number that it has not, and a no-load current that it has elsewhere: a sentence each."""
    from network import referee_opendss

    for more, sentence in (({"clock": 6}, "clock number 6"), ({"i0_percent": 1.0}, "no-load current")):
        trafo = Transformer("T", "s", "e", 100.0, 400.0, 400.0, 4.0, 1.0, **more)
        feeder = Feeder.build("x", {"s": 400.0, "e": 400.0}, [trafo], source_bus="s")
        with pytest.raises(RefereeError, match=sentence):
            referee_opendss.check(feeder, [1], [[1.0]], [[0.0]])
