"""Is a run what it claims to be?  Checks from its tables and its scenario alone.

What is confirmed (docs/results.md has the columns):

1. meters add up;  2. batteries, the shared ESS and its holders follow their equations;  3. positions balance with the
meters and with one another;  4. envelopes were kept, or the breach is told;  5. power-grid-model finds the same power
flow;  6. the books balance, hang together by their hashes, and bills are their sums;  7. every amount follows from meters,
positions, rights, series and the tariff, to the micro-euro;  8. the headline figures agree.

Before them stand the files, which must be those that the manifest names, the manifest, which must say what the tables say, and the
form: a table, column or row that is missing, or a figure that is none, fails.  Beside them people, storages and feeder
are held against the scenario, and clearings against their own history.  Nothing here calls
the code that made the run; only the schema and the opening of the folder are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.certify_evidence import Check, Evidence, Wrong
from sim.certify_files import NAME as FILES
from sim.certify_files import files
from sim.certify_manifest import NAME as MANIFEST
from sim.certify_manifest import agrees
from sim.query import QueryError, database
from sim.schema import SECTIONS

__all__ = ["Certification", "Check", "certify"]


@dataclass(frozen=True, slots=True)
class Certification:
    """What came of all checks of a run."""

    ok: bool
    checks: tuple[Check, ...]

    def to_frame(self) -> Any:
        """Return the checks as a pandas table."""
        import pandas as pd

        return pd.DataFrame(
            [(c.name, c.ok, c.detail, c.rows_checked) for c in self.checks],
            columns=["check", "ok", "detail", "rows_checked"],
        )


def _points() -> dict[str, tuple[tuple[str, ...], Callable[[Evidence], str]]]:
    """Return the checks in order: name, the folders they look at, the function."""
    from sim.certify_bills import recomputed
    from sim.certify_clearings import clearings
    from sim.certify_enforcement import enforced
    from sim.certify_figures import key_figures
    from sim.certify_form import check
    from sim.certify_grid import power_flow
    from sim.certify_ledger import books
    from sim.certify_positions import envelopes, positions
    from sim.certify_scenario import as_told
    from sim.certify_states import balance, storages

    whole, metered, booked = (
        ("tables", "reference"),
        ("tables", "reference", "unmanaged"),
        ("tables", "reference", "ex_post"),
    )
    return {
        "form": (tuple(SECTIONS), check),
        "scenario": (whole, as_told),
        "meters": (metered, balance),
        "storage": (whole, storages),
        "positions": (whole, positions),
        "envelopes": (whole, envelopes),
        "enforcement": (whole, enforced),
        "power flow": (metered, power_flow),
        "clearings": (whole, clearings),
        "ledger": (booked, books),
        "bills": (booked, recomputed),
        "key figures": (booked, key_figures),
    }


def certify(path: Path | str, *, only: Collection[str] = ()) -> Certification:
    """Check a run.

    Parameters
    ----------
    path
        The run's folder, with its four folders of tables and its scenario.
    only
        Names of checks, such as ``"power flow (tables)"``; empty: all.  What was left out is not certified.

    Returns
    -------
    Certification
        One check per point and folder, called ``point (folder)``.  A check that cannot be made has failed.
    """
    folder = Path(path)
    try:
        scenario, dt_h = _scenario(folder)
        connection = database(folder)
    except (Wrong, QueryError) as error:
        return Certification(False, (Check("form (tables)", False, str(error), 0),))
    with connection:
        checks = [
            _made(f"{name} ({section})", Evidence(connection, folder, section, scenario, dt_h), point)
            for name, (sections, point) in _points().items()
            for section in sections
            if not only or f"{name} ({section})" in only
        ]
        if not only or MANIFEST in only:
            checks.insert(0, _made(MANIFEST, Evidence(connection, folder, "tables", scenario, dt_h), agrees))
    if not only or FILES in only:
        checks.insert(0, files(folder))
    # nothing checked is nothing certified
    return Certification(bool(checks) and all(check.ok for check in checks), tuple(checks))


def _made(name: str, evidence: Evidence, point: Callable[[Evidence], str]) -> Check:
    """Make one check; whatever stops it is its failure."""
    import duckdb

    try:
        detail = point(evidence)
    except Wrong as error:
        return Check(name, False, str(error), evidence.rows_checked)
    except duckdb.Error as error:
        return Check(name, False, f"the tables cannot be read: {str(error).splitlines()[0]}", evidence.rows_checked)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        return Check(
            name,
            False,
            f"the tables or the scenario are not as promised: {type(error).__name__} {error}",
            evidence.rows_checked,
        )
    return Check(name, True, detail, evidence.rows_checked)


def _scenario(folder: Path) -> tuple[dict[str, Any], float]:
    """Return the resolved scenario and the length of its intervals. [h]"""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    file = folder / "scenario.yaml"
    try:
        scenario = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
        return scenario, float(scenario["time"]["interval_minutes"]) / 60.0
    except (OSError, YAMLError, KeyError, TypeError, ValueError) as error:
        raise Wrong(f"{file} is missing or no resolved scenario: {type(error).__name__}") from error
