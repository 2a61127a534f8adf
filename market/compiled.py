"""How the exchange's compiled functions are compiled.

All are cached on disk, so that only the first clearing after an installation waits.  A part is called by compiled code
alone and has no door from Python, which would take a third of its time to compile.  The fast ones may contract and
reorder sums, but infinite limits must stay infinite: neither nnan nor ninf.

The cache looks at the file of a function, not at the files of the parts that it calls: whoever edits a part removes
``market/__pycache__`` to see it at work.
"""

from __future__ import annotations

from typing import Any

__all__ = ["EXACT", "EXACT_PART", "FAST", "FAST_PART"]

EXACT: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}
EXACT_PART: dict[str, Any] = EXACT | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
FAST: dict[str, Any] = EXACT | {"fastmath": {"contract", "reassoc", "nsz", "arcp"}}
FAST_PART: dict[str, Any] = EXACT_PART | {"fastmath": {"contract", "reassoc", "nsz", "arcp"}}
