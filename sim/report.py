"""A run as one page: numbers become sentences, figures and tables, and these one HTML file that needs nothing else.

:func:`write` reads the tables of a run folder and writes ``report.html`` into it.  The file asks the network for nothing:
plotly.js, figures and carried data are inside, compressed (a browser unpacks them with ``DecompressionStream``) or, with
``plain``, as they are.  Texts of people are escaped by the template and by ``<`` in the data; scripts write them with
``textContent``.

What a page says is computed in :mod:`sim.report_data` (numbers), :mod:`sim.sentences` (words) and :mod:`sim.figures`
(pictures); this file lays them out.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

from sim import palette
from sim.report_charts import charts
from sim.report_data import Story, collect
from sim.report_page import page
from sim.report_tables import ReportError, RunTables

__all__ = ["ReportError", "packed", "write"]

TEMPLATES = Path(__file__).parent / "templates"


def write(run_path: Path, plain: bool = False) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Parameters
    ----------
    run_path
        The folder of a finished run.
    plain
        Put plotly.js and the data into the page as they are: three times as large, for browsers without
        ``DecompressionStream`` and for people who want to read the source.  A scenario may ask for it, too.

    Raises
    ------
    ReportError
        If the folder is no finished run.
    """
    import duckdb

    tables = RunTables(Path(run_path))
    try:
        asked = bool((tables.scenario.get("report") or {}).get("plain"))
        html = render(collect(tables), tables, plain=plain or asked)
    except duckdb.Error as error:
        raise ReportError(f"{run_path} is no whole run: {str(error).splitlines()[0]}") from error
    finally:
        tables.close()
    path = Path(run_path) / "report.html"
    path.write_text(html, encoding="utf-8", newline="\n")
    return path


def render(story: Story, tables: RunTables, *, plain: bool = False) -> str:
    """Return the page of a story."""
    import jinja2
    from plotly.offline import get_plotlyjs

    drawn = charts(story, tables)
    context = page(story, tables, drawn)
    blob = json.dumps(
        {"figures": drawn.figures, "live": drawn.live}, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        **context,
        palette=palette.css(),
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        js=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        packed=not plain,
        plotly=get_plotlyjs() if plain else packed(get_plotlyjs()),
        blob=_inert(blob) if plain else packed(blob),
    )


def packed(text: str) -> str:
    """Return gzip in base64; without a time stamp, so that equal runs are equal pages."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0)).decode("ascii")


def _inert(json_text: str) -> str:
    """Return JSON that cannot end the script it stands in, nor begin another."""
    return json_text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
