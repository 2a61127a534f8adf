"""Messages: never wider than the envelope, and whatever goes wrong on the way, the limits kept are those in force by the rules."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.message_table import controls_of, read_envelopes, read_messages, write_messages
from network.messages import NEVER, Controls, Defaults, InForce, MessageError, in_force, messages_of, watts

NOON = np.datetime64("2030-06-01T12:00", "s")
DEFAULTS = Defaults.same(["A", "B"], 1.5, 1.0)


def at(second: int | None) -> np.datetime64:
    return NEVER if second is None else NOON + np.timedelta64(second, "s")


def control(start: int = 0, length: int = 10, **told: object) -> Controls:
    """One control for A, known since a hundred seconds before noon; 5000 W of import, 4000 W of export."""
    row: dict[str, object] = {
        "mrid": "m", "agent_id": "A", "receiver_id": "A", "created_at": -100, "received_at": -100, "cancelled_at": None, "primacy": 1,
        "import_limit_w": 5000.0, "export_limit_w": 4000.0,
    } | told  # fmt: skip
    columns: dict[str, object] = {
        name: (value,) for name, value in row.items() if name in ("mrid", "agent_id", "receiver_id")
    }
    columns |= {name: np.array([row[name]], dtype=np.float64) for name in ("import_limit_w", "export_limit_w")}
    columns |= {name: np.array([at(row[name])]) for name in ("created_at", "received_at", "cancelled_at")}  # type: ignore[arg-type]
    return Controls(
        start=np.array([at(start)]), duration_s=np.array([length]), primacy=np.array([row["primacy"]]), **columns  # type: ignore[arg-type]
    )  # fmt: skip


def sent(*parts: Controls) -> Controls:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def kept(controls: Controls, *seconds: int, who: str = "A") -> InForce:
    return in_force(controls, DEFAULTS, [who], np.array([at(s) for s in seconds]))


def exports(controls: Controls, *seconds: int) -> list[float]:
    return kept(controls, *seconds).export_limit_w[0].tolist()


def same(a: Controls, b: Controls) -> None:
    for field in fields(Controls):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        assert mine == other if isinstance(mine, tuple) else np.array_equal(mine, other, equal_nan=mine.dtype.kind in {"f", "M"}), field.name  # fmt: skip


# -- rounding ----------------------------------------------------------------------------------------------------------


@given(st.floats(0.0, 1e6))
def test_rounding_never_widens_a_limit_and_loses_less_than_the_step_that_can_be_sent(limit_kw: float) -> None:
    """Whole watts up to 32 767 W, tens up to ten times that, and so on; never above, never a whole step below."""
    w = float(watts(limit_kw))
    step = 1.0
    while limit_kw * 1e3 / step > 32_767:
        step *= 10

    assert 0 <= w / 1e3 <= limit_kw
    assert limit_kw * 1e3 - w < step * (1 + 1e-9)
    value = w
    while value > 32_767:
        value /= 10
    assert value == int(value)


def test_a_limit_of_whole_watts_is_sent_as_it_is() -> None:
    """4.2 kW are 4200 W, although 4.2 · 1000 is not exact; what is beyond 16 bits goes down to tens."""
    assert watts([4.2, 0.0, 32.767, 32.768, 9.2999999]).tolist() == [4200, 0, 32767, 32760, 9299]


def test_what_is_no_limit_is_refused() -> None:
    """Below zero, or no number."""
    for wrong in (-0.1, float("nan")):
        with pytest.raises(MessageError, match="expected zero or more"):
            watts([1.0, wrong])


# -- what is in force ----------------------------------------------------------------------------------------------------


def test_a_control_binds_from_its_start_to_its_end_and_the_default_before_and_after() -> None:
    """The first second after the end is a gap."""
    found = kept(control(), -1, 0, 9, 10)

    assert found.export_limit_w[0].tolist() == [1000, 4000, 4000, 1000]
    assert found.import_limit_w[0].tolist() == [1500, 5000, 5000, 1500]
    assert found.import_cause[0].tolist() == ["gap", "control", "control", "gap"]


@pytest.mark.parametrize("side", ["import", "export"])
def test_a_message_of_one_direction_leaves_the_default_in_the_other(side: str) -> None:
    """The import limit is applied although no export limit stands beside it, and the other way round."""
    other = "export" if side == "import" else "import"
    found = kept(control(**{f"{other}_limit_w": np.nan}), 5)

    assert getattr(found, f"{side}_limit_w")[0, 0] == {"import": 5000, "export": 4000}[side]
    assert getattr(found, f"{other}_limit_w")[0, 0] == {"import": 1500, "export": 1000}[other]
    assert getattr(found, f"{other}_cause")[0, 0] == "not said"


def test_a_lost_message_leaves_the_default_and_never_no_limit() -> None:
    """Nothing arrived: 1500 W and 1000 W."""
    found = kept(control(received_at=None), 5)

    assert (found.import_limit_w[0, 0], found.export_limit_w[0, 0]) == (1500, 1000)
    assert found.export_cause[0, 0] == "lost"


def test_a_late_message_binds_from_its_arrival_on() -> None:
    """It begins at 0 s, arrives at 4 s, ends at 10 s."""
    found = kept(control(received_at=4), 3, 4, 9, 10)

    assert found.export_limit_w[0].tolist() == [1000, 4000, 4000, 1000]
    assert found.export_cause[0].tolist() == ["late", "control", "control", "gap"]


def test_a_message_for_somebody_else_is_not_acted_on() -> None:
    """A's control that went to B is nobody's."""
    wrong = control(receiver_id="B")

    assert exports(wrong, 5) == [1000]
    assert kept(wrong, 5).export_cause[0, 0] == "lost"
    assert kept(wrong, 5, who="B").export_limit_w[0, 0] == 1000


def test_a_cancelled_control_ends_at_once_and_one_cancelled_before_its_start_never_was() -> None:
    """Cancelled at 6 s; and at −1 s, where it supersedes nothing either."""
    assert exports(control(cancelled_at=6), 5, 6, 9) == [4000, 1000, 1000]
    never = control(mrid="n", created_at=-50, received_at=-50, export_limit_w=100.0, cancelled_at=-1)
    assert exports(sent(control(), never), 5) == [4000]


def test_the_lower_primacy_goes_first_then_the_later_creation_then_the_tighter_limit() -> None:
    """Three pairs that overlap exactly."""
    old = control(mrid="old")
    assert exports(sent(old, control(mrid="new", created_at=-50, export_limit_w=9000.0)), 5) == [9000]
    assert exports(sent(old, control(mrid="new", created_at=-50, export_limit_w=9000.0, primacy=2)), 5) == [4000]
    assert exports(sent(old, control(mrid="twin", export_limit_w=3000.0)), 5) == [3000]


def test_a_superseded_control_does_not_come_back() -> None:
    """A short newer control within a long one: after it the default, not the old limit."""
    long, short = control(0, 100), control(10, 10, mrid="short", created_at=-50, received_at=-50, export_limit_w=9000.0)
    found = kept(sent(long, short), 9, 10, 19, 20, 99)

    assert found.export_limit_w[0].tolist() == [4000, 9000, 9000, 1000, 1000]
    assert found.export_cause[0].tolist() == ["control", "control", "control", "superseded", "superseded"]


def test_a_better_control_of_one_direction_supersedes_that_one_alone() -> None:
    """A newer export limit leaves the import limit of the control before in force."""
    newer = control(mrid="n", created_at=-50, import_limit_w=np.nan, export_limit_w=100.0)
    found = kept(sent(control(), newer), 5)

    assert (found.import_limit_w[0, 0], found.export_limit_w[0, 0]) == (5000, 100)


def test_a_customer_without_a_default_is_refused() -> None:
    """A lost message would mean no limit; so would a default of one direction."""
    with pytest.raises(MessageError, match="C: has no default"):
        in_force(control(), DEFAULTS, ["A", "C"], np.array([NOON]))
    with pytest.raises(MessageError, match="A: the default needs a limit in both directions"):
        Defaults(("A",), np.array([1500.0]), np.array([np.nan]))


rows = st.builds(
    dict,
    start=st.integers(0, 12), length=st.integers(1, 8), created_at=st.integers(-3, 2), received_at=st.none() | st.integers(-3, 12),
    cancelled_at=st.none() | st.integers(-3, 16), primacy=st.integers(0, 2), receiver_id=st.sampled_from(["A", "A", "A", "B"]),
    import_limit_w=st.sampled_from([np.nan, 0.0, 2000.0, 7000.0]), export_limit_w=st.sampled_from([0.0, 500.0, 3000.0]),
)  # fmt: skip


@given(st.lists(rows, max_size=7))
def test_with_any_set_of_faults_the_limits_are_those_of_a_client_that_lives_through_them(
    told: list[dict[str, object]],
) -> None:
    """A client that goes second by second, knows at each what has arrived, and strikes off what a better one overlaps."""
    listed = [control(mrid=f"m{k}", **row) for k, row in enumerate(told)]  # type: ignore[arg-type]
    seconds = range(-4, 22)
    for side, default in (("import", 1500.0), ("export", 1000.0)):
        struck: set[int] = set()
        wanted = []
        for t in seconds:
            live = [
                k for k, row in enumerate(told)
                if k not in struck and row["receiver_id"] == "A" and row["received_at"] is not None and row["received_at"] <= t  # type: ignore[operator]
                and row["start"] <= t < row["start"] + row["length"]  # type: ignore[operator]
                and not (row["cancelled_at"] is not None and row["cancelled_at"] <= t)  # type: ignore[operator]
                and not np.isnan(row[f"{side}_limit_w"])  # type: ignore[call-overload]
            ]  # fmt: skip

            def rank(k: int, side: str = side) -> tuple[object, ...]:
                return told[k]["primacy"], -told[k]["created_at"], told[k][f"{side}_limit_w"], f"m{k}"  # type: ignore[operator]

            best = min(live, key=rank, default=None)
            wanted.append(default if best is None else told[best][f"{side}_limit_w"])
            if best is not None:
                struck |= {
                    k for k, row in enumerate(told)
                    if row["start"] <= t < row["start"] + row["length"]  # type: ignore[operator]
                    and (np.isnan(row[f"{side}_limit_w"]) or rank(k) > rank(best))  # type: ignore[call-overload]
                }  # fmt: skip
        if not listed:
            continue
        found = kept(sent(*listed), *seconds)

        assert getattr(found, f"{side}_limit_w")[0].tolist() == wanted
        assert np.isfinite(getattr(found, f"{side}_limit_w")).all()
        assert ((getattr(found, f"{side}_by")[0] >= 0) == (getattr(found, f"{side}_cause")[0] == "control")).all()


def test_an_issue_of_envelopes_is_kept_by_those_who_got_it() -> None:
    """Two customers, four quarter-hours, a later issue of the last two that B never receives."""
    times = NOON + np.arange(4) * np.timedelta64(900, "s")
    first = messages_of(["A", "B"], times, 900, np.full((2, 4), 5.0), np.full((2, 4), 3.0), at(-7200))
    later = messages_of(["A", "B"], times[2:], 900, np.full((2, 2), 4.0), np.full((2, 2), 2.0), at(1500))
    later = replace(later, received_at=np.where(np.array(later.agent_id) == "B", NEVER, later.received_at))

    found = in_force(first.joined(later), DEFAULTS, ["A", "B"], times)

    assert found.export_limit_w.tolist() == [[3000, 3000, 2000, 2000], [3000] * 4]
    assert found.import_limit_w.tolist() == [[5000, 5000, 4000, 4000], [5000] * 4]
    assert len(set(first.mrid) | set(later.mrid)) == 12


# -- CSV -----------------------------------------------------------------------------------------------------------------


def test_csv_reads_what_it_wrote(tmp_path: Path) -> None:
    """Lost, cancelled, misdirected and one-sided messages among them."""
    controls = sent(
        control(), control(mrid="b", received_at=None), control(mrid="c", receiver_id="B", cancelled_at=3),
        control(mrid="d", import_limit_w=np.nan, primacy=0, received_at=2),
    )  # fmt: skip
    write_messages(tmp_path / "m.csv", controls, DEFAULTS)
    again, defaults = read_messages(tmp_path / "m.csv")

    same(controls, again)
    assert defaults.agent_id == DEFAULTS.agent_id
    assert defaults.limits(1) == DEFAULTS.limits(1)


def test_every_mistake_of_a_file_is_told_with_its_place(tmp_path: Path) -> None:
    """Line and column, all at once."""
    file = tmp_path / "m.csv"
    file.write_text(
        "kind,agent_id,mrid,start,duration_s,created_at,import_limit_w,export_limit_w\n"
        "default,A,,,,,1500,\n"
        "control,A,x,noon,900,2030-06-01T10:00Z,4.2,100\n"
        "control,A,y,2030-06-01T12:00,900,2030-06-01T10:00Z,,\n"
        "control,A,y,2030-06-01T12:00,0,2030-06-01T10:00Z,100,\n"
    )
    with pytest.raises(MessageError) as told:
        read_messages(file)

    places = [sentence.split(": ")[0] for sentence in told.value.mistakes]
    assert places == [
        "m.csv:2:export_limit_w",
        "m.csv:3:import_limit_w",
        "m.csv:5:duration_s",
        "m.csv:4:import_limit_w",
    ]


def test_envelopes_become_messages_issue_by_issue(tmp_path: Path) -> None:
    """Columns of a run; a limit of inf is not sent, a row that stands twice is refused."""
    file = tmp_path / "e.csv"
    head = "issued_at,time,agent_id,import_limit_kw,export_limit_kw\n"
    rows_ = "2030-06-01T10:00Z,2030-06-01T12:00Z,A,4.2,inf\n2030-06-01T10:00Z,2030-06-01T12:15Z,A,4.2,3\n2030-06-01T12:10Z,2030-06-01T12:15Z,A,4,2\n"
    file.write_text(head + rows_)
    found = in_force(controls_of(read_envelopes(file)), DEFAULTS, ["A"], np.array([at(0), at(900)]))

    assert found.import_limit_w.tolist() == [[4200, 4000]]
    assert found.export_limit_w.tolist() == [[1000, 2000]]
    file.write_text(head + rows_ + rows_.splitlines()[0] + "\n")
    with pytest.raises(MessageError, match=r"e\.csv:5:time: A has an envelope for this interval in line 2 already"):
        read_envelopes(file)
