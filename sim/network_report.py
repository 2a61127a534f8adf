"""The folder of a result about a network: the page, its JSON, and a table as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.network_page import render

if TYPE_CHECKING:
    from sim.network_hosting import NetworkHosting
    from sim.network_validate import NetworkValidation

__all__ = ["write"]


def write(result: NetworkValidation | NetworkHosting, folder: Path, json_text: str) -> Path:
    """Write ``report.html``, ``result.json`` and ``table.csv`` into a folder, which is made; return the page's path.

    Parameters
    ----------
    result
        What is told.
    folder
        Where to.
    json_text
        The result as JSON.
    """
    from sim import network_report_hosting, network_report_validation
    from sim.network_validate import NetworkValidation

    if isinstance(result, NetworkValidation):
        context, sections = network_report_validation.page(result)
    else:
        context, sections = network_report_hosting.page(result)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "result.json": json_text + "\n",
        "table.csv": result.to_frame().to_csv(index=False),
        "report.html": render(context, sections),
    }
    for name, text in texts.items():
        partial = folder / f".{name}.partial"
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(folder / name)
    return folder / "report.html"
