"""What the same people do without sharing: the reference run and the unmanaged network, computed once and kept.

Both depend on the people, the data, the tariffs and the envelopes, not on what sharing costs or how it is settled, so that many runs of a
study share them. They are kept as finished Parquet tables in the user's cache folder under the hash of exactly the parts of the
scenario that they depend on, and may be computed in a process of their own beside the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.cache import folder as cache_folder
from sim.folder import open_partial, publish, remove_stale, told
from sim.rows import ResultsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.resolve import Resolved
    from sim.scenario import Scenario

__all__ = ["compute", "key", "started"]

NOTES = "notes.json"

IRRELEVANT = ("name", "report", "storage", "aggregators", "settlement")
"""Parts of a scenario that the reference does not depend on."""
IRRELEVANT_IN = {"market": ("mechanism",), "dso": ("lifting",)}


def key(resolved: Resolved) -> str:
    """Return the hash under which the reference of a scenario is kept."""
    from sim.resolve import package_version

    told = resolved.scenario.model_dump(mode="json", by_alias=True)
    told_tariffs = told["tariffs"]
    kept: dict[str, Any] = {name: value for name, value in told.items() if name not in IRRELEVANT}
    for part, names in IRRELEVANT_IN.items():
        kept[part] = {name: value for name, value in kept[part].items() if name not in names}
    kept["tariffs in order"] = list(told_tariffs)  # the first is for everybody who is on no other
    kept["data"], kept["version"] = resolved.provenance, package_version()
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]


def compute(
    scenario: Scenario, resolved: Resolved | None = None, spare: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Return the folder that holds ``reference/`` and ``unmanaged/``, simulating them if they are not there yet.

    Parameters
    ----------
    scenario, resolved
        As loaded; as resolved, where that is known.
    spare
        A folder for them where the cache cannot be written, such as on a full disk: it saves time and is never needed.

    Returns
    -------
    The folder, and what the log should say about it: where there is an ``unkept``, why the cache was not used.
    """
    from sim.resolve import resolve

    if resolved is None:
        resolved = resolve(scenario)
    name = key(resolved)
    for home in (_home(), spare):
        kept = None if home is None else _notes(home / name)
        if home is not None and kept is not None:
            return home / name, {**kept, "cached": home != spare}
    home = _home()
    try:
        return home / name, {**_simulated(resolved, home / name), "cached": False}
    except ResultsError as error:
        if spare is None or not isinstance(error.__cause__, OSError):
            raise
        unkept = f"the reference was not kept in {home} ({error.__cause__.strerror or error.__cause__}): it is computed again next time"
    return spare / name, {**_simulated(resolved, spare / name), "cached": False, "unkept": unkept}


def _simulated(resolved: Resolved, target: Path) -> dict[str, Any]:
    """Simulate what is kept into a folder that appears whole or not at all; return what the log should say."""
    from sim.plays import play_reference, play_unmanaged

    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target.parent)
        partial = open_partial(target)
        try:
            notes = {
                "reference": play_reference(resolved, partial / "reference"),
                "unmanaged": play_unmanaged(resolved, partial / "unmanaged"),
            }
            note = {"notes": notes, "sha256": _hashes(partial)}
            (partial / NOTES).write_text(json.dumps(note, sort_keys=True), encoding="utf-8")
            publish(partial, target, replace=False)  # where somebody else was faster, theirs is as good
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return notes


def _home() -> Path:
    """Return the folder in which references are kept: the user's cache, or the system's temporary folder where that cannot be written."""
    home = cache_folder() / "reference"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "commonwatt-reference"
    return home if os.access(home, os.W_OK) else Path(tempfile.gettempdir()) / "commonwatt-reference"


def _notes(target: Path) -> dict[str, Any] | None:
    """Return what a finished reference says of itself; None where there is none."""
    try:
        note = json.loads((target / NOTES).read_text(encoding="utf-8"))
        if note["sha256"] == _hashes(target):
            notes: dict[str, Any] = note["notes"]
            return notes
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not what was written: it is made again
    shutil.rmtree(target, ignore_errors=True)
    return None


def _hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every table in a folder."""
    found = {}
    for path in sorted(folder.rglob("*.parquet")):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


@contextmanager
def started(
    scenario: Scenario, resolved: Resolved, spare: Path
) -> Iterator[Callable[[], tuple[Path, Mapping[str, Any]]]]:
    """Compute the reference beside what happens inside the ``with`` block; call what is yielded for the result.

    What could not be kept in the cache is in ``spare``, which is removed behind the block.
    A second process is used where there is a second core and nothing kept yet. Whatever goes wrong in it goes wrong again, and is told, here.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2 or _notes(_home() / key(resolved)) is not None:
        try:
            yield lambda: compute(scenario, resolved, spare)
        finally:
            shutil.rmtree(spare, ignore_errors=True)
        return
    # not multiprocessing, which would import the caller's own script once more
    packages = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", "from sim.reference import _child; _child()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": packages},
    )

    def result() -> tuple[Path, Mapping[str, Any]]:
        child.wait()
        folder, notes = compute(scenario, resolved, spare)
        if folder.parent == spare:  # the other process could not keep it
            notes.setdefault("unkept", f"the reference was not kept in {_home()}: it is computed again next time")
        return folder, {**notes, "cached": False}

    try:
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin:  # a child that has died is no loss: then it is computed here
            pickle.dump((scenario, spare), child.stdin)
        yield result
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(spare, ignore_errors=True)


def _child() -> None:
    """Compute one reference in a process of its own: the scenario comes through standard input, the result is kept in the cache."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    scenario, spare = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by our own parent
    compute(scenario, spare=spare)
