"""A folder that appears whole or not at all.

A run is written into a hidden folder beside its place, ``.<name>.partial-<host>-<pid>``, and renamed when complete.
A process that dies leaves the hidden folder; the next one that writes beside it removes it, if its writer is dead: the
same host, and no process of that number, or a younger one (numbers are given again, in containers soon).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from sim.rows import ResultsError

__all__ = ["is_run", "open_partial", "publish", "remove_stale", "told"]

_SECOND = 1.0
"""Clocks of files and processes differ by less than this. [s]"""


def is_run(path: Path) -> bool:
    """Whether a folder is a run, and may therefore be replaced by one."""
    return (path / "manifest.json").is_file()


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise ResultsError(
                f"The disk is full: {path} could not be written. Nothing half-written was kept; "
                "free some space, or choose another folder with --out."
            ) from error
        reason = error.strerror or str(error).splitlines()[0]
        raise ResultsError(f"{path} could not be written: {reason}. Choose another folder with --out.") from error


def open_partial(path: Path) -> Path:
    """Make and return the hidden folder in which the run ``path`` grows."""
    host = re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())
    base = path.parent / f".{path.name}.partial-{host}-{os.getpid()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1000):
        partial = base if attempt == 0 else base.with_name(f"{base.name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            partial.mkdir()
            return partial
    raise ResultsError(f"{base} and 999 more of its kind are in the way; remove them.")


def remove_stale(parent: Path) -> list[Path]:
    """Remove the hidden folders beside a run whose writers are dead; return them."""
    host = re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())
    pattern = re.compile(rf"\..+\.partial-{re.escape(host)}-(\d+)(-\d+)?")
    removed = []
    for folder in sorted(parent.glob(".*.partial-*")) if parent.is_dir() else []:
        match = pattern.fullmatch(folder.name)
        if match and folder.is_dir() and not _alive(int(match[1]), folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _alive(pid: int, folder: Path) -> bool:
    """Whether the process that made the folder still runs."""
    import psutil

    try:
        born = psutil.Process(pid).create_time()
        return bool(born <= _first_written(folder) + _SECOND)
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:
        return True


def _first_written(folder: Path) -> float:
    """Return when the oldest file in a folder was written. [s since 1970]"""
    times = [file.stat().st_mtime for file in folder.iterdir() if file.is_file()]
    return min(times, default=folder.stat().st_mtime)


def publish(partial: Path, path: Path, *, replace: bool) -> bool:
    """Give a complete folder its name; return whether it took the place (false: another of the same name was faster).

    With ``replace`` an older run makes room, and only a run does: a folder that is none is never touched.
    """
    for folder, _, files in os.walk(partial):
        for name in files:
            _sync(Path(folder) / name)
        _sync(Path(folder))
    aside = partial.with_name(partial.name + "-0")
    if replace and is_run(path):
        path.rename(aside)
    try:
        if path.is_dir():
            path.rmdir()  # only an empty one goes
        partial.rename(path)
    except OSError as error:
        if aside.exists() and not path.exists():
            aside.rename(path)  # the older run takes its place again
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    finally:
        if aside.exists():
            shutil.rmtree(aside, ignore_errors=True)
    _sync(path.parent)
    return True


def _sync(path: Path) -> None:
    """Ask the disk to keep what was written before the name is given."""
    with contextlib.suppress(PermissionError):  # some systems open no folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
