"""CSIP-AUS: what is written is what IEEE 2030.5 and CSIP-AUS say, and it is read again to the watt."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.csip_aus import read_xml, write_xml
from network.messages import NEVER, Controls, Defaults, MessageError, in_force, messages_of

NOON = np.datetime64("2030-06-01T12:00", "s")
NS = {"": "urn:ieee:std:2030.5:ns", "aus": "https://csipaus.org/ns/v1.3"}
LIST = """<DERControlList xmlns="urn:ieee:std:2030.5:ns" xmlns:csipaus="https://csipaus.org/ns/v1.3" all="1" results="1">
  <DERControl><mRID>0123456789ABCDEF0123456789ABCDEF</mRID><creationTime>1906538400</creationTime>
    <EventStatus><currentStatus>{status}</currentStatus><dateTime>1906538400</dateTime><potentiallySuperseded>false</potentiallySuperseded></EventStatus>
    <interval><duration>300</duration><start>1906545600</start></interval>{more}
    <DERControlBase>{base}</DERControlBase></DERControl></DERControlList>"""
POWER = "<csipaus:{0}><multiplier>{1}</multiplier><value>{2}</value></csipaus:{0}>"


def issue(limits_kw: np.ndarray, names: tuple[str, ...] = ("home 1", "Käfer & Söhne")) -> Controls:
    times = NOON + np.arange(limits_kw.shape[2]) * np.timedelta64(1800, "s")
    return messages_of(names, times, 1800, limits_kw[0], limits_kw[1], NOON - np.timedelta64(7200, "s"))


def same(a: Controls, b: Controls) -> None:
    for field in fields(Controls):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        assert mine == other if isinstance(mine, tuple) else np.array_equal(mine, other, equal_nan=mine.dtype.kind in {"f", "M"}), field.name  # fmt: skip


@given(st.lists(st.floats(0.0, 500.0), min_size=12, max_size=12), st.integers(0, 5), st.booleans())
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read_again_to_the_watt(
    tmp_path_factory: pytest.TempPathFactory, limits: list[float], which: int, one_sided: bool
) -> None:
    """Any limits, a cancelled control, one that says a single direction, customers with odd names."""
    controls = issue(np.array(limits).reshape(2, 2, 3))
    cancelled = np.full(6, NEVER)
    cancelled[which] = NOON
    controls = replace(controls, cancelled_at=cancelled)
    if one_sided:
        half = controls.import_limit_w.copy()
        half[which] = np.nan
        controls = replace(controls, import_limit_w=half)
    defaults = Defaults.same(("home 1", "Käfer & Söhne", "nobody"), 1.5, 40.009)
    file = tmp_path_factory.mktemp("xml") / "out.xml"
    write_xml(file, controls, defaults)

    again, told = read_xml(file)

    same(controls, again)
    assert told.agent_id == defaults.agent_id
    assert told.import_limit_w.tolist() == [1500.0] * 3
    assert told.export_limit_w.tolist() == [40000.0] * 3


def test_the_file_says_what_a_client_looks_for(tmp_path: Path) -> None:
    """Read by plain XML: both limits, value and multiplier, seconds since 1970, the default of both directions, the primacy."""
    write_xml(tmp_path / "x.xml", issue(np.array([[[4.2]], [[61.237]]]), ("A",)), Defaults.same(["A"], 1.5, 1.0))
    root = ET.parse(tmp_path / "x.xml").getroot()

    def one(path: str) -> str:
        found = root.findall(path, NS)
        assert len(found) == 1, path
        return str(found[0].text)

    control, default = ".//DERControl", ".//DefaultDERControl"
    assert one(f"{control}/DERControlBase/aus:opModImpLimW/value") == "4200"
    assert one(f"{control}/DERControlBase/aus:opModImpLimW/multiplier") == "0"
    assert one(f"{control}/DERControlBase/aus:opModExpLimW/value") == "6123"
    assert one(f"{control}/DERControlBase/aus:opModExpLimW/multiplier") == "1"
    assert one(f"{control}/interval/start") == str(int(NOON.astype(np.int64)))
    assert one(f"{control}/interval/duration") == "1800"
    assert one(f"{control}/creationTime") == str(int(NOON.astype(np.int64)) - 7200)
    assert one(f"{default}/DERControlBase/aus:opModExpLimW/value") == "1000"
    assert one(f"{default}/DERControlBase/aus:opModImpLimW/value") == "1500"
    assert one(".//DERProgram/primacy") == "1"
    assert not root.findall(".//randomizeStart", NS)


def test_a_list_of_one_direction_keeps_the_default_for_the_other(tmp_path: Path) -> None:
    """A server's answer with opModImpLimW alone: the import limit is applied, the export limit is the default."""
    file = tmp_path / "derc.xml"
    file.write_text(LIST.format(status=0, more="", base=POWER.format("opModImpLimW", 1, 250)))
    controls, defaults = read_xml(file, owner="A", fallback_kw=(1.5, 1.0))

    found = in_force(controls, defaults, ["A"], np.array([1906545600], dtype="datetime64[s]"))

    assert (found.import_limit_w[0, 0], found.import_cause[0, 0]) == (2500, "control")
    assert (found.export_limit_w[0, 0], found.export_cause[0, 0]) == (1000, "not said")


@pytest.mark.parametrize(
    ("status", "more", "base", "sentence"),
    [
        (0, "<randomizeStart>60</randomizeStart>", POWER.format("opModExpLimW", 0, 5), "randomised"),
        (0, "", POWER.format("opModGenLimW", 0, 5) + POWER.format("opModExpLimW", 0, 5), "asks for opModGenLimW"),
        (0, "", "", "says neither opModImpLimW nor opModExpLimW"),
        (0, "", POWER.format("opModExpLimW", 0, -5), "a limit is a magnitude"),
        (7, "", POWER.format("opModExpLimW", 0, 5), "has the status 7"),
        (0, "", "<opModConnect>perhaps</opModConnect>", "is not as IEEE 2030.5 says"),
    ],
)
def test_what_would_be_half_obeyed_is_refused(tmp_path: Path, status: int, more: str, base: str, sentence: str) -> None:
    """With the file, the customer and the control."""
    file = tmp_path / "derc.xml"
    file.write_text(LIST.format(status=status, more=more, base=base))

    with pytest.raises(MessageError, match=f"derc.xml: A: .*{sentence}"):
        read_xml(file, owner="A", fallback_kw=(1.5, 1.0))


def test_a_fraction_of_a_watt_is_read_downwards_and_a_cancelled_control_is_none(tmp_path: Path) -> None:
    """42005 · 10^-1 W are 4200 W; status 2 is in force at no time."""
    file = tmp_path / "derc.xml"
    file.write_text(LIST.format(status=2, more="", base=POWER.format("opModExpLimW", -1, 42005)))
    controls, defaults = read_xml(file, owner="A", fallback_kw=(1.5, 1.0))

    assert controls.export_limit_w.tolist() == [4200]
    found = in_force(controls, defaults, ["A"], np.array([1906545600], dtype="datetime64[s]"))
    assert (found.export_limit_w[0, 0], found.export_cause[0, 0]) == (1000, "cancelled")


def test_no_default_no_limit_no_document_type(tmp_path: Path) -> None:
    """A customer whose default misses a direction, a list of nobody, and a file with entities are refused."""
    file = tmp_path / "derc.xml"
    file.write_text(LIST.format(status=0, more="", base=POWER.format("opModImpLimW", 0, 5)))
    with pytest.raises(MessageError, match="a default for both directions is needed"):
        read_xml(file, owner="A")
    with pytest.raises(MessageError, match="Say whose it is"):
        read_xml(file)
    with pytest.raises(MessageError, match="home 1: has controls and no default"):
        write_xml(tmp_path / "x.xml", issue(np.ones((2, 2, 1))), Defaults.same(["Käfer & Söhne"], 1.5, 1.5))
    file.write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(MessageError, match="document type"):
        read_xml(file, owner="A")
