"""Before everything: are the files those that were written, and does the run itself say that it went well?

The manifest holds the hash of every table. It protects nothing against somebody who changes both, but it finds what rots, what was edited in
passing, and every cell that no law speaks of (the width of an envelope that nobody reached, a forecast).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sim.certify_evidence import Check
from sim.schema import SECTIONS, tables_of

__all__ = ["NAME", "files"]

NAME = "files"


def files(folder: Path) -> Check:
    """Compare every table with the manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        index = manifest["tables"]
        told = {(section, name): index[section][name]["sha256"] for section in SECTIONS for name in tables_of(section)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Check(
            NAME, False, f"manifest.json is missing or does not name every table: {type(error).__name__} {error}", 0
        )
    for count, ((section, name), digest) in enumerate(told.items()):
        path = folder / section / f"{name}.parquet"
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return Check(NAME, False, f"{section}/{name}.parquet cannot be read: {error.strerror}", count)
        if found != digest:
            return Check(NAME, False, f"{section}/{name}.parquet is not the file that the manifest names", count)
    return Check(NAME, True, f"{len(told)} tables are those that the manifest names", len(told))
