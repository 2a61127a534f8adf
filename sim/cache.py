"""The user's cache folder: tables that were read once are kept, and may be thrown away at any time.

A cached file is written under a temporary name in the same folder and then renamed, so that a reader meets either the
whole file or none.  Whoever reads one must be able to tell that it is damaged (a checksum) and write it again: the
cache is never the only copy of anything.  A folder that cannot be written to costs time, not correctness.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["folder", "write"]

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the cache folder: ``COMMONWATT_CACHE`` where it is set, else the platform's user cache."""
    chosen = os.environ.get("COMMONWATT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("commonwatt"))


def write(path: Path, fill: Callable[[Path], object]) -> bool:
    """Write a file whole or not at all.

    Parameters
    ----------
    path
        Where the file shall stand; its folder is made.
    fill
        Writes the content to the path it is given (a temporary one beside ``path``).

    Returns
    -------
    Whether the file stands there now; ``False`` where the folder cannot be written to, which the log says.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".", suffix=".part")
        os.close(descriptor)
        temporary = Path(name)
        fill(temporary)
        temporary.replace(path)
    except OSError as error:
        _log.warning("nothing is cached in %s (%s); the data is read again next time", path.parent, error)
        return False
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return True
