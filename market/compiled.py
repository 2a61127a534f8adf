"""How the exchange's compiled functions are compiled.

All are cached on disk, so that only the first clearing after an installation waits.  A part is called by compiled code
alone and has no door from Python, which would take a third of its time to compile.

No fast mathematics: whether a part is compiled into its caller or called depends on which of them was found in the
cache, and sums that may be contracted or reordered would then differ in the last digit between the first run after an
installation and the next.  It would not be faster either.

The cache looks at the file of a function, not at the files of the parts that it calls: whoever edits a part removes
``market/__pycache__`` to see it at work.
"""

from __future__ import annotations

from typing import Any

__all__ = ["EXACT", "EXACT_PART"]

EXACT: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}
EXACT_PART: dict[str, Any] = EXACT | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
