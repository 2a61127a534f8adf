"""What an ending means: exit codes, and errors as sentences.

====  =====================================================================
code  meaning
====  =====================================================================
0     done
1     done, but a check failed or something did not converge; or the machine
      stopped it (disk full, no permission)
2     bad input: one line for each mistake
3     infeasible: what was asked for cannot be had, with the cause
130   interrupted
====  =====================================================================

The convention behind it: an exception class defined in one of our packages is
an outcome that a person can act on.  One whose name ends in ``Infeasible``
means 3, one derived from :class:`ValueError` means 2, any other
:class:`RuntimeError` means 1.  Its text is printed line by line, or its
``mistakes`` where it carries them.  Whatever else is raised is a bug, and keeps its
traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "BAD_INPUT",
    "DONE",
    "FAILED",
    "INFEASIBLE",
    "INTERRUPTED",
    "INTERRUPTION",
    "CommandError",
    "Ending",
    "of_error",
    "of_outcome",
]

DONE, FAILED, BAD_INPUT, INFEASIBLE, INTERRUPTED = 0, 1, 2, 3, 130

PACKAGES = frozenset({"agents", "cli", "market", "network", "sim", "storage"})

_MACHINE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EIO: "the disk does not answer",
    errno.EMFILE: "too many files are open",
}
_NO_SUCH_PLACE = {
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
}


class CommandError(ValueError):
    """CommandError on the command line itself, one sentence each."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends other than by being done."""

    code: int
    """Exit code."""

    lines: tuple[str, ...] = ()
    """What is said on standard error."""


INTERRUPTION = Ending(INTERRUPTED, ("Interrupted; nothing half-written was left behind.",))


def of_error(error: BaseException, named: Sequence[str | Path] = ()) -> Ending | None:
    """Say what an exception means to a person; None for a bug.

    Parameters
    ----------
    error
        What was raised.
    named
        The words of the command line.  A missing file is bad input only if the person named it there; a file
        of ours that is missing is a bug.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTION
    if type(error).__module__.partition(".")[0] in PACKAGES:
        lines = _lines(error)
        if type(error).__name__.endswith("Infeasible"):
            return Ending(INFEASIBLE, lines)
        if isinstance(error, ValueError):
            return Ending(BAD_INPUT, lines)
        if isinstance(error, RuntimeError):
            return Ending(FAILED, lines)
    if isinstance(error, OSError):
        return _of_os_error(error, named)
    return None


def of_outcome(manifest: dict[str, Any]) -> int:
    """Return the exit code of a finished run from the ``outcome`` of its manifest."""
    outcome = str(manifest.get("outcome", ""))
    return {"ok": DONE, "infeasible": INFEASIBLE}.get(outcome, FAILED)


def _lines(error: BaseException) -> tuple[str, ...]:
    mistakes: Sequence[str] = getattr(error, "mistakes", None) or str(error).splitlines()
    lines = tuple(str(line).rstrip() for line in mistakes if str(line).strip())
    return lines or (type(error).__name__,)


def _of_os_error(error: OSError, named: Sequence[str | Path]) -> Ending | None:
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in _MACHINE:
        return Ending(FAILED, (f"Stopped: {_MACHINE[error.errno]}{place}. Nothing half-written was left behind.",))
    if error.errno in _NO_SUCH_PLACE and error.filename is not None:
        words = {Path(word).absolute() for word in named}
        missing = Path(str(error.filename)).absolute()
        if missing in words or any(word in missing.parents for word in words):
            return Ending(BAD_INPUT, (f"{error.filename}: {_NO_SUCH_PLACE[error.errno]}. Check the path.",))
    return None
