"""Feeders are radial, plausible and told wrong in sentences."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.feeder import Feeder, FeederError, Line, Transformer

IEEE33 = Path(__file__).parent / "golden" / "ieee33"

V = {"s": 20e3, "a": 400.0, "b": 400.0, "c": 400.0}
SOUND = {
    "T": Transformer("T", "s", "a", 400, 20e3, 400, 4, 4.6, i0_percent=0.5, p0_kw=0.6, clock=5),
    "L1": Line("L1", "a", "b", 0.1, 0.05, rating_a=270, c1_nf=100, length_m=200),
    "L2": Line("L2", "c", "b", 0.1, 0.05, rating_a=270, c1_nf=100, length_m=300),
}


def build(*more, leave=(), source_bus="s", v=V, **changed):
    """The sound feeder with some records changed, left out or added."""
    records = {
        name: dataclasses.replace(record, **changed.pop(name, {}))
        for name, record in SOUND.items()
        if name not in leave
    }
    return Feeder.build("test", v, [*records.values(), *more], source_bus=source_bus, **changed)


def test_a_sound_feeder_knows_who_feeds_whom():
    """From s over a and b to c, wherever a line begins and ends."""
    feeder = build()

    assert feeder.parent.tolist() == [-1, 0, 1, 2]
    assert [feeder.branches.ids[k] for k in feeder.parent_branch[1:]] == ["T", "L1", "L2"]
    assert feeder.depth.tolist() == [0, 1, 2, 3]
    assert feeder.distance_m.tolist() == [0, 0, 200, 500]
    assert feeder.bus_index("c") == 3


def test_a_checked_feeder_stays_as_it_was_checked():
    """Arrays of a feeder cannot be written, and are its own."""
    ohm = np.array([0.1])
    feeder = build()
    changed = dataclasses.replace(feeder.branches, r1_ohm=np.array([math.nan, 0.2, 0.2]))
    assert changed.r1_ohm[1] == 0.2

    with pytest.raises(ValueError, match="read-only"):
        feeder.branches.r1_ohm[1] = -1.0
    taken = dataclasses.replace(feeder.buses, x=np.zeros(4))
    ohm[0] = 5.0
    assert taken.x.tolist() == [0.0, 0.0, 0.0, 0.0]


WRONG = {
    "negative": ({"L1": {"r1_ohm": -0.1}}, r"line 'L1' has an impedance of -0.1 \+ j0.05 ohm"),
    "no impedance": ({"L1": {"r1_ohm": 0.0, "x1_ohm": 0.0}}, "not both zero"),
    "NaN r": ({"L1": {"r1_ohm": math.nan}}, "line 'L1' has an impedance of nan"),
    "NaN x": ({"L1": {"x1_ohm": math.nan}}, "line 'L1' has an impedance of"),
    "infinite r": ({"L1": {"r1_ohm": math.inf}}, "line 'L1' has an impedance of inf"),
    "NaN c": ({"L1": {"c1_nf": math.nan}}, "line 'L1' has a capacitance of nan nF"),
    "negative c": ({"L1": {"c1_nf": -1.0}}, "line 'L1' has a capacitance of -1 nF"),
    "microfarad": ({"L1": {"c1_nf": 1e8}}, "too much for its impedance"),
    "zero rating": ({"L1": {"rating_a": 0.0}}, "line 'L1' has a rating of 0 A"),
    "NaN rating": ({"L1": {"rating_a": math.nan}}, "line 'L1' has a rating of nan A"),
    "kiloampere": ({"L1": {"rating_a": 0.27}}, "in ampere, not kiloampere"),
    "milliohm": (
        {"L1": {"r1_ohm": 1000.0}},
        "line 'L1' has 1000 ohm, which no line of a 400 V network has",
    ),
    "milliohm a kilometre": ({"L1": {"r1_ohm": 64.2}}, "has 321 ohm per kilometre"),
    "two voltages": ({"L1": {"from_bus": "s"}, "leave": ("T",)}, "joins buses of 20000 V and 400 V. Put a transformer"),
    "loop on itself": ({"L2": {"from_bus": "b"}}, "branch 'L2' begins and ends at bus 'b'"),
    "no kVA": ({"T": {"sn_kva": 0.0}}, "transformer 'T' has a rated power of 0 kVA"),
    "NaN kVA": ({"T": {"sn_kva": math.nan}}, "transformer 'T' has a rated power of nan kVA"),
    "swapped": (
        {"T": {"v_from_v": 400.0, "v_to_v": 20e3}},
        "has a rated voltage of 400 V on its from side, where the bus has 20000 V",
    ),
    "NaN winding": ({"T": {"v_to_v": math.nan}}, "has a rated voltage of nan V on its to side"),
    "uk as a fraction": ({"T": {"uk_percent": 0.04}}, r"has uk = 0.04 %"),
    "NaN uk": ({"T": {"uk_percent": math.nan}}, r"has uk = nan %"),
    "pk in watt": ({"T": {"pk_kw": 4600.0}}, "has a copper loss of 4600 kW; expected zero to uk · sn = 16 kW"),
    "NaN pk": ({"T": {"pk_kw": math.nan}}, "has a copper loss of nan kW"),
    "NaN i0": ({"T": {"i0_percent": math.nan}}, "has a no-load current of nan %"),
    "negative p0": ({"T": {"p0_kw": -1.0}}, "has an iron loss of -1 kW"),
    "half a clock": ({"T": {"clock": 5.5}}, "has the clock number 5.5"),
    "no such side": ({"T": {"tap_side": "hv"}}, "has its tap changer on side 'hv'"),
    "half a tap": ({"T": {"tap_side": "to", "tap_position": 0.5, "tap_step_percent": 2.5}}, "stands at tap 0.5"),
    "NaN step": ({"T": {"tap_side": "to", "tap_step_percent": math.nan}}, "stands at tap 0 of nan %"),
    "source in volt": ({"source_v_pu": 230.0}, "the source has a voltage of 230 pu"),
    "NaN source": ({"source_v_pu": math.nan}, "the source has a voltage of nan pu"),
    "source in MVA": ({"source_short_circuit_va": 100.0}, "has a short-circuit power of 100 VA"),
    "infinite source": ({"source_short_circuit_va": math.inf}, "1e16 for an ideal source"),
    "NaN R/X": ({"source_rx_ratio": math.nan}, "has an R/X ratio of nan"),
    "kilovolt": ({"v": {**V, "c": 0.4}}, "bus 'c' has a nominal voltage of 0.4 V"),
    "NaN voltage": ({"v": {**V, "c": math.nan}}, "bus 'c' has a nominal voltage of nan V"),
    "nobody's bus": ({"L2": {"in_service": False}}, "bus 'c' is not connected to the source bus 's'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    """Every mistake is a sentence with the culprit in it."""
    changes, sentence = WRONG[case]

    with pytest.raises(FeederError, match=sentence):
        build(**changes)


def test_all_mistakes_are_told_at_once():
    """Three culprits, one message."""
    with pytest.raises(FeederError) as caught:
        build(L1={"r1_ohm": math.nan}, L2={"rating_a": 0.0}, T={"sn_kva": -1.0}, source_v_pu=400.0)

    assert str(caught.value).splitlines()[0] == "feeder 'test': 4 mistakes"
    for culprit in ("'L1'", "'L2'", "'T'", "400 pu"):
        assert culprit in str(caught.value)


def test_ids_are_given_once():
    """Two buses or two branches of one name are refused."""
    with pytest.raises(FeederError, match="several branches are called 'L1'"):
        build(dataclasses.replace(SOUND["L2"], id="L1"), leave=("L2",))
    buses = build().buses
    with pytest.raises(FeederError, match="several buses are called 'a'"):
        dataclasses.replace(build(), buses=dataclasses.replace(buses, ids=("s", "a", "a", "c")))


def test_an_unknown_bus_is_named():
    """By name where names are given, by number where numbers are."""
    with pytest.raises(FeederError, match="branch 'L3' ends at bus 'd', which is not listed"):
        build(Line("L3", "c", "d", 0.1, 0.1))
    with pytest.raises(FeederError, match="the source stands at bus 'x'"):
        build(source_bus="x")
    with pytest.raises(FeederError, match=r"has no bus 'd'. Its buses are 's', 'a', 'b' and 'c'"):
        build().bus_index("d")
    feeder = build()
    with pytest.raises(FeederError, match="branch 'L2' goes to bus number 4, but the buses are numbered 0 to 3"):
        dataclasses.replace(feeder, branches=dataclasses.replace(feeder.branches, to_bus=np.array([1, 2, 4])))
    with pytest.raises(FeederError, match="the source stands at bus number -1"):
        dataclasses.replace(feeder, source_bus=-1)


def test_columns_of_unequal_length_are_named():
    """A column that lost a row is told before anything is calculated."""
    feeder = build()
    with pytest.raises(FeederError, match="r1_ohm has 2 entries for 3 ids"):
        dataclasses.replace(feeder, branches=dataclasses.replace(feeder.branches, r1_ohm=np.ones(2)))


def test_a_loop_names_the_line_that_closes_it_and_its_loop():
    """Closed is a–b–c–a."""
    with pytest.raises(FeederError, match="branch 'L3' closes a loop with 'L1' and 'L2'"):
        build(Line("L3", "a", "c", 0.1, 0.1))


def test_a_source_alone_is_a_feeder():
    """One bus, no branch."""
    feeder = Feeder.build("alone", {"s": 400.0}, [], source_bus="s")

    assert (feeder.n_bus, feeder.n_branch, feeder.order.tolist()) == (1, 0, [0])


def test_closing_the_ties_of_the_33_bus_feeder_names_all_five():
    """Five ties close five loops, and each is told."""
    with (IEEE33 / "lines.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [Line(r["line_id"], r["from_bus"], r["to_bus"], float(r["r1_ohm"]), float(r["x1_ohm"])) for r in rows]

    with pytest.raises(FeederError, match="5 mistakes") as caught:
        Feeder.build("33", {str(k): 12660.0 for k in range(1, 34)}, lines, source_bus="1")

    assert str(caught.value).count("closes a loop") == 5


@st.composite
def trees(draw):
    """Any tree of up to twelve buses, its branches drawn in any direction and listed in any order."""
    n = draw(st.integers(2, 12))
    above = [draw(st.integers(0, k)) for k in range(n - 1)]
    lines = []
    for k, parent in enumerate(above, start=1):
        ends = (f"{parent}", f"{k}")
        ends = ends[::-1] if draw(st.booleans()) else ends
        lines.append(Line(f"L{k}", *ends, 0.1, 0.05, length_m=10.0 * k))
    return {f"{k}": 400.0 for k in range(n)}, draw(st.permutations(lines)), [-1, *above]


@given(trees())
def test_the_tree_is_found_however_it_is_listed(tree):
    """Parents are those that were drawn, every bus comes after its parent, and what a bus feeds stands behind it, in one piece."""
    buses, lines, above = tree
    feeder = Feeder.build("tree", buses, lines, source_bus="0")

    assert feeder.parent.tolist() == above
    place = {int(bus): k for k, bus in enumerate(feeder.order)}
    assert sorted(place) == list(range(len(buses)))
    for bus in range(len(buses)):
        behind = {bus}
        for other in feeder.order:
            if above[other] in behind:
                behind.add(int(other))
        assert {place[k] for k in behind} == set(range(place[bus], place[bus] + len(behind)))


@given(trees(), st.data())
def test_a_missing_line_leaves_exactly_what_it_fed(tree, data):
    """Open any line: the buses behind it are named, and no others."""
    buses, lines, above = tree
    cut = data.draw(st.integers(1, len(buses) - 1))
    behind = {cut}
    for bus in range(cut + 1, len(buses)):
        if above[bus] in behind:
            behind.add(bus)
    opened = [dataclasses.replace(line, in_service=line.id != f"L{cut}") for line in lines]

    with pytest.raises(FeederError) as caught:
        Feeder.build("cut", buses, opened, source_bus="0")

    sentence = str(caught.value).splitlines()[1].split(" not connected")[0]
    if len(behind) <= 8:
        assert {int(word.strip("',")) for word in sentence.split() if word.strip("',").isdigit()} == behind
