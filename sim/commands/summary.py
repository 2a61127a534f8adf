"""A finished run in a few lines for people, or as JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

__all__ = ["SHOWN", "as_json", "check_out", "figure_lines", "figures", "table", "write"]

SHOWN = {
    "community_cost_eur": "bills of all members together",
    "members_better_off": "members who are better off",
    "worst_regret_eur": "largest loss of a member",
    "self_consumption_rate": "share of the solar energy used in the community",
    "self_sufficiency": "share of the demand met in the community",
    "peak_export_kw": "peak export",
    "intervals_outside_limits": "intervals outside the limits of the grid",
    "curtailed_kwh": "solar energy given up",
    "operator_margin_eur": "margin of the shared storage's operator",
}
"""The figures that people see when a run is done, in words."""

_SIGNIFICANT = 4
_ENDLESS = 100_000
"""Columns of a page that is not a terminal: nothing is folded there."""


def as_json(value: Any) -> str:
    """Return JSON that any program reads: a figure that does not exist (NaN) is null.

    >>> as_json({"saving": float("nan"), "homes": 3})
    '{"saving": null, "homes": 3}'
    """
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, default=str)


def figures(kpis: Any, headline: Sequence[str]) -> list[dict[str, Any]]:
    """Return the community's rows of a table of key figures, in the order of ``headline``.

    Parameters
    ----------
    kpis : pandas.DataFrame
        The table ``kpis`` of a run.
    headline
        Names of figures; one that the run does not have is left out.
    """
    columns = ["kpi", "boundary", "period", "value", "unit", "reference", "difference", "percent"]
    community = kpis[kpis["scope"] == "community"].drop_duplicates("kpi").set_index("kpi", drop=False)
    return [community.loc[name, columns].to_dict() for name in headline if name in community.index]


def figure_lines(rows: Iterable[Mapping[str, Any]], currency: str) -> list[tuple[str, str, str, str]]:
    """Return what is meant with its unit, this run, the reference, and the change, for the figures of :data:`SHOWN`."""
    by_name = {row["kpi"]: row for row in rows}
    lines = []
    for name, words in SHOWN.items():
        if name in by_name:
            row = by_name[name]
            unit = "" if row["unit"] in {"1", "members", "intervals"} else f" [{row['unit'].replace('eur', currency)}]"
            change = number(row["difference"], signed=True)
            lines.append((words + unit, number(row["value"]), number(row["reference"]), change))
    return lines


def number(value: Any, *, signed: bool = False) -> str:
    """Write a number with four significant digits and no more; a dash where there is none.

    >>> number(1234567.8), number(0.12345), number(float("nan")), number(3.0, signed=True)
    ('1 234 568', '0.1235', '–', '+3')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if not isinstance(value, (int, float)):
        return str(value)
    digits = max(0, _SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:{'+' if signed and value else ''},.{min(digits, 6)}f}".replace(",", " ")
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print a table to standard output, as wide as it needs to be where that is not a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(header):
        drawn.add_column(title, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _ENDLESS).print(drawn)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all: under another name first, beside it; devices and pipes are written to."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()  # what a link points to, not the link
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise type(error)(error.errno, error.strerror, str(path)) from error


def check_out(out: str | None, case: Path, option: str = "--out") -> None:
    """Refuse a file that cannot be written or must not be, before anything is computed."""
    if out is None:
        return
    path = Path(out)
    if not out.strip() or path.is_dir():
        given = "is empty" if not out.strip() else f"{out} is a folder"
        raise typer.BadParameter(f"{given}; give the name of a file for the result.", param_hint=option)
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"{out}: no such file or folder: {path.parent}. Make the folder first.", param_hint=option
        )
    if path.exists() and case.exists() and path.samefile(case):
        raise typer.BadParameter("it is the case itself, which would be lost; name another file.", param_hint=option)


def _plain(value: Any) -> Any:
    """Turn arrays' scalars, times and NaN into what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
