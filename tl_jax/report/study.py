"""The report of a study: one HTML page of text, figures and tables, the tables as CSV too."""

import csv
import io
import json
import numbers
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tl_jax.report import html


class Table(NamedTuple):
    """Numbers to read and to take away."""

    name: str  # of its CSV file, without .csv; no two of a report have the same
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple]  # numbers, text or None; with three digits on the page, in full in the CSV


class Picture(NamedTuple):
    """A figure, or an image."""

    caption: str
    image: str  # a data URI, as plots.svg, html.png and html.jpeg give


class Section(NamedTuple):
    """A heading, and what stands below it."""

    title: str
    text: str  # paragraphs, parted by empty lines
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


def write(
    directory: pathlib.Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Mapping[str, str],
    result: dict,
) -> pathlib.Path:
    """Write `directory`/report.html, and beside it <name>.csv for every table; gives the page.

    `facts` are what was studied, in a few words each. Of the `result` the page shows the
    provenance (`tl_jax.runs.results.provenance`) and, if it has one, the `config`.
    """
    html.require()
    directory, config = pathlib.Path(directory), result.get("config")
    tables = [table for section in sections for table in section.tables]
    files = {f"{table.name}.csv": _csv(table) for table in tables}
    if len(files) < len(tables):
        raise ValueError(f"tables of one name would share a file: {[t.name for t in tables]}")
    for name, content in files.items():
        html.put(directory / name, content)
    page = html.render(
        "study.html.j2",
        title=title,
        lead=lead,
        sections=sections,
        facts=facts,
        result=result,
        config=json.dumps(config, indent=2, default=str, ensure_ascii=False) if config else "",
        download={name: html.uri("text/csv", html.encoded(c)) for name, c in files.items()},
        numeric=_numeric,
    )
    return html.put(directory / "report.html", page)


def _csv(table: Table) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])
    return file.getvalue()


def _numeric(table: Table) -> list[bool]:
    """Of each column, whether it has numbers only, which stand flush right."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [all(x is None or isinstance(x, numbers.Real) for x in column) for column in columns]
