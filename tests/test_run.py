"""A whole run: what a scenario asks for comes out, certified, twice the same, and nothing half-written is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sim.results import Run, find
from sim.run import run
from sim.scenario import ScenarioError, load

REPOSITORY = Path(__file__).parent.parent
STREET = REPOSITORY / "examples" / "street" / "scenario.yaml"

Runner = Callable[..., Run]

NO_ROOM = """
import errno, pathlib
_write = pathlib.Path.write_text
def write(self, *args, **more):
    if str(self).startswith({full!r}):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))
    return _write(self, *args, **more)
pathlib.Path.write_text = write
"""
"""A disk that is full when a reference is completed."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all runs of this file, empty at the start."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def play(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run the street for a day, changed by ``key=value``."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(cache))

    def go(*sets: str, days: int = 1, seed: int | None = None, folder: str = "run") -> Run:
        return run(load(STREET, sets=sets, seed=seed, days=days), tmp_path / folder)

    return go


def column(run: Run, table: str, name: str, section: str = "tables") -> np.ndarray:
    return np.asarray(run.table(table, section).column(name).to_pylist())


def certified(run: Run) -> None:
    """Every one of the checks of ``commonwatt certify`` passes."""
    from sim.certify import certify

    result = certify(run.path)
    assert result.ok, [(check.name, check.detail) for check in result.checks if not check.ok]


def hashes(run: Run) -> dict[str, str]:
    return {
        f"{section}/{name}": table["sha256"]
        for section, tables in run.manifest["tables"].items()
        for name, table in tables.items()
    }


def test_a_run_is_certified_and_things_happen_in_it(play: Runner) -> None:
    """Two days on a street: trades, rents, a storage that cycles, forecasts that err, and all eight checks pass."""
    result = play(days=2)

    certified(result)
    assert result.manifest["outcome"] == "ok"
    assert result.manifest["conservation"]["ledger_micro_eur"] == 0
    assert result.manifest["conservation"]["ledger_milliwatt_hour"] == 0
    assert np.abs(column(result, "positions", "exchange_kw")).max() > 1.0
    assert column(result, "rights", "energy_kwh").sum() > 1.0
    assert column(result, "storage", "charge_kw").sum() > 1.0
    assert (column(result, "forecasts", "pv_kw") > 0).any()
    assert len(column(result, "meters", "time", "unmanaged")) > 0
    assert (result.path / "report.html").stat().st_size > 100_000


def test_sharing_costs_the_community_no_more_than_the_retail_tariff(play: Runner) -> None:
    """The sum of the members' bills is below that of the reference, and nobody's money is lost on the way."""
    result = play(days=2)

    kpis = result.kpis()
    cost = kpis[(kpis["kpi"] == "community_cost_eur") & (kpis["period"] == "run")]
    assert len(cost) == 1
    assert cost["value"].item() < cost["reference"].item()


def test_the_same_scenario_gives_the_same_bytes_in_another_place(play: Runner, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Twice, in different working directories, with an empty cache the second time: every table has the same hash."""
    first = play()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "another cache"))
    second = run(load(STREET, days=1), Path("again"))

    assert hashes(first) == hashes(second)


def test_another_seed_gives_another_run(play: Runner) -> None:
    """Otherwise the test before would compare nothing."""
    first, second = play(), play(seed=99, folder="other")

    assert hashes(first)["tables/meters"] != hashes(second)["tables/meters"]


def test_a_finished_run_is_used_again(play: Runner, tmp_path: Path) -> None:
    """The second call returns the folder of the first, untouched."""
    first = play()
    before = (first.path / "manifest.json").stat().st_mtime_ns

    assert play().path == first.path
    assert (first.path / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param(["storage=[]"], id="no storage", marks=pytest.mark.slow),
        pytest.param(["storage.0.energy_kwh=0"], id="a storage of no size", marks=pytest.mark.slow),
        pytest.param(["dso.envelopes=false"], id="no envelopes"),
        pytest.param(["market.replanning=pinned"], id="what was sold is kept"),
        pytest.param(["market.replanning=off"], id="no re-planning", marks=pytest.mark.slow),
        pytest.param(["settlement.rule=alloc.equal"], id="another sharing rule", marks=pytest.mark.slow),
        pytest.param(["storage.0.self_discharge_per_h=0.002"], id="a storage that leaks"),
        pytest.param(["storage.0.initial_kwh=20"], id="a storage that begins with energy", marks=pytest.mark.slow),
        pytest.param(["time.start='2024-06-04T12:00'"], id="days from noon to noon"),
    ],
)
def test_every_variant_of_a_scenario_is_certified(play: Runner, sets: list[str]) -> None:
    """Whatever is left out or done differently, the run ends well and all checks pass."""
    result = play(*sets)

    assert result.manifest["outcome"] == "ok"
    certified(result)


HOMES = {
    "one prosumer": "{id: A, bus: street 1, load: {kw: 1, profile: family}, solar: {kw_peak: 9, profile: sun}, battery: {kwh: 5}}",
    "one consumer": "{id: A, bus: street 1, load: {kw: 1, profile: family}}",
    "two homes without sun": "{id: A, bus: street 1, load: {kw: 1, profile: family}}, {id: B, bus: street 2, load: {kw: 1, profile: couple}, ev: {kw: 11}}",
}  # fmt: skip


@pytest.mark.parametrize(
    "homes", [pytest.param(said, id=name, marks=[pytest.mark.slow] * (name != "one prosumer")) for name, said in HOMES.items()]
)  # fmt: skip
def test_small_communities(play: Runner, homes: str) -> None:
    """One home, or nobody with sun, is an ordinary run."""
    certified(play(f"people.homes=[{homes}]", "aggregators=[]"))


def test_a_home_whose_load_alone_breaks_its_envelope_is_served_and_named(play: Runner) -> None:
    """3 kW of import for homes with devices: what nobody controls is served, and every breach is a row with its owner."""
    homes = "[{id: A, bus: street 1, load: {kw: 9, profile: farm}, ev: {kw: 3.7}, import_cap_kw: 3}]"
    result = play(f"people.homes={homes}", "aggregators=[]", "storage=[]")

    certified(result)
    owners = column(result, "violations", "agent_id")
    kinds = column(result, "violations", "kind")
    assert (kinds == "envelope").any()
    assert (owners[kinds == "envelope"] == "A").all()


def test_a_line_without_a_rating_has_no_limit(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what a cable carries: its rating is NaN in the table, its loading 0, and the run is certified."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(cache))
    street = shutil.copytree(STREET.parent, tmp_path / "street")
    branches = street / "feeder" / "branches.csv"
    rated = branches.read_text(encoding="utf-8")
    unrated = rated.replace("street 1,street 2,0.0092,0.0037,12,270,", "street 1,street 2,0.0092,0.0037,12,,")
    assert unrated != rated
    branches.write_text(unrated, encoding="utf-8")
    done = run(load(street / "scenario.yaml", days=1), tmp_path / "run")

    of_cable = column(done, "branches", "branch_id") == "cable 2"
    assert np.isnan(column(done, "branches", "rating_a")[of_cable]).all()
    assert not column(done, "branch_flows", "loading_percent")[
        column(done, "branch_flows", "branch_id") == "cable 2"
    ].any()
    certified(done)


@pytest.mark.parametrize(
    ("add", "feed_in"),
    [
        pytest.param("-0.30", "-0.40", id="negative prices"),
        pytest.param("0.0", "0.0", id="nothing for feeding in", marks=pytest.mark.slow),
    ],
)
def test_prices_of_zero_and_below(play: Runner, add: str, feed_in: str) -> None:
    """Negative prices: everyone curtails rather than pays to feed in, and the books still close."""
    result = play(
        f"tariffs.dynamic.energy_eur_per_kwh={{series: spot, add_eur_per_kwh: {add}}}",
        f"tariffs.dynamic.feed_in_eur_per_kwh={feed_in}",
        "tariffs.day and night.feed_in_eur_per_kwh=" + feed_in,
    )

    certified(result)
    if float(feed_in) < 0:
        assert (column(result, "meters", "cause") == "market").any()


def test_sets_are_told_when_they_are_wrong() -> None:
    """A wrong --set is named as such, with what is known."""
    with pytest.raises(ScenarioError, match=r"--set market\.replaning=off"):
        load(STREET, sets=["market.replaning=off"])


def test_a_kill_leaves_nothing_half_written_and_the_next_start_is_clean(tmp_path: Path, cache: Path) -> None:
    """A run killed in the middle has no folder of its name; the next start removes what was hidden and ends well."""
    env = {**os.environ, "COMMONWATT_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY)}
    target = tmp_path / "runs" / "killed"
    command = [sys.executable, str(REPOSITORY / "cli.py"), "demo", "--out", str(target), "--quiet"]
    process = subprocess.Popen([*command, "--days", "30"], env=env, start_new_session=True)
    for _ in range(600):
        if any('"begin"' in log.read_text() for log in (tmp_path / "runs").glob(".killed.partial-*/log.jsonl")):
            break
        time.sleep(0.1)
    time.sleep(2.0)  # in the midst of the simulation
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert not target.exists()
    assert list((tmp_path / "runs").glob(".killed.partial-*"))

    command[2:3] = ["run", str(STREET)]
    done = subprocess.run([*command, "--days", "1"], env=env, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "runs").glob(".*.partial-*"))
    assert Run(target).manifest["outcome"] == "ok"


def test_the_path_of_a_run_imports_nothing_that_is_slow_to_load(tmp_path: Path, cache: Path) -> None:
    """SimBench, pandapower, pvlib, CVXPY and Pyomo take seconds to import, and none of them is needed."""
    code = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from sim.scenario import load, demo_path\n"
        "from sim.resolve import resolve\n"
        "from sim.run import run\n"
        f"run(load({str(STREET)!r}, days=1), Path({str(tmp_path / 'lean')!r}))\n"
        "resolve(load(demo_path()))\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    env = {**os.environ, "COMMONWATT_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "numba" in loaded
    assert not loaded & {"simbench", "pandapower", "pvlib", "cvxpy", "pyomo", "tsam"}


def test_a_folder_that_is_no_run_is_left_alone(play: Runner, tmp_path: Path) -> None:
    """A folder with somebody's files is not touched."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letters.txt").write_text("mine")

    with pytest.raises(RuntimeError, match="is no run"):
        play()
    assert (tmp_path / "run" / "letters.txt").read_text() == "mine"


def test_the_reference_is_kept_and_does_not_depend_on_fees(play: Runner, cache: Path) -> None:
    """Another rent is another run with the same kept reference."""
    first = play()
    second = play("storage.0.rent_energy_eur_per_kwh_day=0.1", folder="dearer")

    assert second.manifest["reference"]["cached"]
    assert hashes(first)["reference/meters"] == hashes(second)["reference/meters"]
    assert first.manifest["content_id"] != second.manifest["content_id"]


@pytest.mark.parametrize("cores", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_cache_without_room_costs_time_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """The reference is computed beside the run, the log says so, and nothing of it stays."""
    packages = tmp_path / "code"
    packages.mkdir()
    full = tmp_path / "full"
    # every process of the run, this one and the second, meets a disk that takes no table under the cache
    (packages / "sitecustomize.py").write_text(NO_ROOM.format(full=str(full)), encoding="utf-8")
    program = "import os, sys; from pathlib import Path; from sim.run import run; from sim.scenario import load; "
    program += f"os.sched_getaffinity = lambda _: set(range({cores})); "
    program += f"run(load({str(STREET)!r}, ['market.replanning=off'], days=1), Path({str(tmp_path / 'run')!r}))"
    path = os.pathsep.join([str(packages), str(REPOSITORY)])
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "COMMONWATT_CACHE": str(full), "PYTHONPATH": path},
        check=True,
        cwd=tmp_path,
    )
    run_folder = tmp_path / "run"

    certified(Run(run_folder))
    notes = [json.loads(line) for line in (run_folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(note["event"] == "note" and "the reference was not kept" in note["text"] for note in notes)
    assert not (run_folder / "spare").exists()
    assert not list((full / "reference").iterdir())


def test_a_run_is_found_by_its_content(play: Runner, tmp_path: Path) -> None:
    """Only the same content id counts."""
    first = play()

    assert find(first.path, first.manifest["content_id"]) is not None
    assert find(first.path, "something else") is None
    shutil.rmtree(first.path)
    assert find(first.path, first.manifest["content_id"]) is None
