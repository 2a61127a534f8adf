"""The installation: what is there, in which version, and whether it works.

Every row is one thing.  A row that is not ``ok`` keeps commonwatt, or a part of
it, from working, and its note says what to do; a thing that only some tests
need is told, but is ``ok`` without.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sim.cache import folder

__all__ = ["BROWSERS", "PACKAGES", "Row", "browser", "doctor", "strangers"]

PACKAGES = ("agents", "market", "network", "sim", "storage")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of the installation."""

    name: str
    """What it is."""

    version: str
    """Version, place or number; empty where it is missing."""

    ok: bool
    """Whether it is as it should be."""

    note: str = ""
    """What it is for, or what to do."""


def doctor() -> list[Row]:
    """Look at the installation, row by row."""
    return [*_python(), *_packages(), *_libraries(), *_solvers(), *_data(), *_machine()]


def strangers(root: Path | None = None) -> dict[str, str]:
    """Name the packages that Python would load from elsewhere than this distribution.

    The five package names are everyday words; another distribution may carry one of them.

    Parameters
    ----------
    root
        The folder the packages should stand in; by default where this file stands.

    Returns
    -------
    dict
        Package name to the place it would be loaded from instead, or to "nowhere".
    """
    root = Path(__file__).resolve().parents[1] if root is None else root.resolve()
    found: dict[str, str] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if origin != root / name / "__init__.py":
            found[name] = str(origin) if origin is not None else "nowhere"
    return found


def browser() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name)) is not None), None)


def _python() -> Iterator[Row]:
    supported = sys.version_info >= (3, 11)
    yield Row(
        "python", platform.python_version(), supported, "" if supported else "commonwatt needs Python 3.11 or newer."
    )


def _packages() -> Iterator[Row]:
    try:
        version = importlib.metadata.version("commonwatt")
    except importlib.metadata.PackageNotFoundError:
        yield Row("commonwatt", "", False, "Not installed; run `pip install -e .` in its folder.")
    else:
        yield Row("commonwatt", version, True)
    elsewhere = strangers()
    for name in PACKAGES:
        if name in elsewhere:
            note = f"Loaded from {elsewhere[name]}: another distribution has a package of this name. Use an environment of its own."
            yield Row(f"package {name}", "", False, note)


def _libraries() -> Iterator[Row]:
    from packaging.requirements import Requirement

    try:
        wanted = importlib.metadata.requires("commonwatt") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in sorted(wanted, key=str.lower):
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Row(requirement.name, "", False, f"Missing; needed: {requirement}.")
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        yield Row(requirement.name, version, fits, "" if fits else f"Needed: {requirement}.")


def _solvers() -> Iterator[Row]:
    """Each solver finds the smallest x >= 1."""
    for name, solve in (("HiGHS", _solve_highs), ("OSQP", _solve_osqp), ("Clarabel", _solve_clarabel)):
        yield _solver(name, solve)


def _solver(name: str, solve: Callable[[], float]) -> Row:
    try:
        x = solve()
    except Exception as error:  # noqa: BLE001 - whatever a broken library raises is the finding
        return Row(f"solver {name}", "", False, f"{type(error).__name__}: {error}")
    right = abs(x - 1.0) < 1e-3
    return Row(f"solver {name}", "solves" if right else "", right, "" if right else f"Found {x} where 1 is right.")


def _solve_highs() -> float:
    import highspy

    model = highspy.Highs()
    model.silent()
    x = model.addVariable(lb=1.0)
    model.minimize(x)
    return float(model.val(x))


def _solve_osqp() -> float:
    import numpy as np
    import osqp
    from scipy import sparse

    solver = osqp.OSQP()
    one = sparse.csc_matrix([[1.0]])
    solver.setup(one, np.zeros(1), one, np.ones(1), np.full(1, np.inf), verbose=False)
    return float(solver.solve(raise_error=True).x[0])


def _solve_clarabel() -> float:
    import clarabel
    import numpy as np
    from scipy import sparse

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix([[1.0]]),
        np.zeros(1),
        sparse.csc_matrix([[-1.0]]),
        -np.ones(1),
        [clarabel.NonnegativeConeT(1)],
        settings,
    )
    return float(solver.solve().x[0])


def _data() -> Iterator[Row]:
    spec = importlib.util.find_spec("simbench")  # the folder is enough: importing it takes seconds
    networks = Path(spec.origin).parent / "networks" if spec is not None and spec.origin is not None else None
    there = networks is not None and networks.is_dir()
    yield Row("SimBench data", str(networks or ""), there, "ODbL" if there else "Missing; install simbench again.")

    cache = folder()
    nearest = next(place for place in (cache, *cache.parents) if place.is_dir())
    writable = os.access(nearest, os.W_OK)
    free_gb = shutil.disk_usage(nearest).free / 1e9
    note = f"{free_gb:.0f} GB free" if writable else "Not writable; set COMMONWATT_CACHE to a folder that is."
    yield Row("cache folder", str(cache), writable, note)

    try:
        zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        yield Row("time zones", "", False, "Missing; install tzdata.")
    else:
        yield Row("time zones", "found", True)


def _machine() -> Iterator[Row]:
    import psutil

    memory = psutil.virtual_memory()
    yield Row("memory", f"{memory.total / 1e9:.0f} GB", ok=True, note=f"{memory.available / 1e9:.0f} GB available")
    yield Row("processors", f"{os.cpu_count()}", ok=True)
    for name in THREADS:
        yield Row(
            name, os.environ.get(name, ""), ok=True, note="" if name in os.environ else "not set: the library decides"
        )
    found = browser()
    yield Row(
        "browser", found or "", ok=True, note="" if found else "No Chromium; only the tests of the report need one."
    )
