"""``commonwatt network messages``: envelopes go out as messages and come back, and what is kept of them is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cli

ENVELOPES = "time,agent_id,import_limit_kw,export_limit_kw\n" + "".join(
    f"2030-06-01T{hour:02d}:00Z,{name},{4.2 + hour / 10:.1f},{limit}\n"
    for hour in range(4) for name, limit in (("A", 3), ("B", "inf"))
)  # fmt: skip

Told = tuple[int, str, str]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Ask the command line; gives its exit code and what it wrote."""

    def go(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["commonwatt", "network", "messages", *map(str, words)])
        with pytest.raises(SystemExit) as ending:
            cli.main()
        out, err = capsys.readouterr()
        return int(ending.value.code or 0), out, err

    return go


def test_envelopes_go_out_as_csip_aus_and_come_back_the_same(ask: Callable[..., Told], tmp_path: Path) -> None:
    """CSV to XML to CSV: the same limits in force, in watts; an export limit that was never sent is the default."""
    file = tmp_path / "envelopes.csv"
    file.write_text(ENVELOPES)
    defaults = ("--default-import-kw", 1.5, "--default-export-kw", 1.0)

    assert ask(file, *defaults, "--out", tmp_path / "m.xml")[0] == 0
    assert ask(tmp_path / "m.xml", "--out", tmp_path / "m.csv", "--quiet") == (0, "", "")
    told = [json.loads(ask(name, *extra, "--json")[1]) for name, extra in ((file, defaults), (tmp_path / "m.xml", ()), (tmp_path / "m.csv", ()))]  # fmt: skip

    for one in told:
        assert one["customers"] == ["A", "B"]
        assert one["import_limit_w"] == [[4200, 4300, 4400, 4500]] * 2
        assert one["export_limit_w"] == [[3000] * 4, [1000] * 4]
        assert one["export_cause"][1] == ["not said"] * 4
        assert one["customer_hours"]["import"] == {"control": 8}
    assert told[0]["time"] == told[1]["time"] == told[2]["time"]


def test_what_customers_keep_is_told_by_cause(ask: Callable[..., Told], tmp_path: Path) -> None:
    """Of two hours one is lost and one is half an hour late."""
    file = tmp_path / "m.csv"
    file.write_text(
        "kind,agent_id,mrid,start,duration_s,created_at,received_at,import_limit_w,export_limit_w\n"
        "default,A,,,,,,1500,1500\n"
        "control,A,x,2030-06-01T12:00Z,3600,2030-06-01T10:00Z,lost,5000,4000\n"
        "control,A,y,2030-06-01T13:00Z,3600,2030-06-01T10:00Z,2030-06-01T13:30Z,5000,4000\n"
    )
    code, out, _ = ask(file, "--json")

    assert code == 0
    assert json.loads(out)["customer_hours"]["export"] == {"control": 0.5, "late": 0.5, "lost": 1.0}
    assert "default: lost" in ask(file)[1]


def test_what_cannot_be_used_is_told_in_a_line_each_with_code_2(ask: Callable[..., Told], tmp_path: Path) -> None:
    """No default, half a default, a wrong cell, a name that says no format, a file that is not there."""
    file = tmp_path / "envelopes.csv"
    file.write_text(ENVELOPES)
    code, _, err = ask(file)
    assert code == 2
    assert "no default is said for A, B" in err
    assert ask(file, "--default-import-kw", 1)[0] == 2
    assert "ends in .xml" in ask(file, "--out", tmp_path / "x.doc")[2]
    assert "does not exist" in ask(tmp_path / "gone.csv")[2]
    file.write_text(ENVELOPES.replace("2030-06-01T01:00Z,A,4.3,3", "2030-06-01T01:00Z,A,-1,3"))
    code, _, err = ask(file, "--default-import-kw", 1, "--default-export-kw", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert "envelopes.csv:4:import_limit_kw" in err
