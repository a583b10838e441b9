"""The report of a study: one HTML page of text, figures and tables, the tables as CSV too."""

import base64
import csv
import io
import json
import numbers
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tl_jax.report import html, text
from tl_jax.report.plots import Drawing


class Table(NamedTuple):
    """Numbers to read and to take away."""

    name: str  # of its CSV file, without .csv; no two files of a report have the same
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple]  # numbers, text or None; with three digits on the page, in full in the CSV
    # Columns of fractions that the page shows times 100, with their unit: "%", or "points" for
    # differences, deviations and half-widths of such; fractions in the CSV
    hundredths: Mapping[str, str] = {}


class Picture(NamedTuple):
    """A figure, or an image."""

    name: str  # of its files, without .svg, .pdf, .png or .jpeg
    caption: str
    image: Drawing | str  # or a data URI, as html.png and html.jpeg give

    @property
    def files(self) -> dict[str, bytes]:
        """Its files beside the page: of a figure the vectors, of an image the pixels."""
        if isinstance(self.image, Drawing):
            return {f"{self.name}.{form}": self.image.file(form) for form in ("svg", "pdf")}
        kind, _, content = self.image.removeprefix("data:image/").partition(";base64,")
        return {f"{self.name}.{kind}": base64.b64decode(content)}


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
    """Write `directory`/report.html, and the files of every table and picture; return the page.

    `facts` are what was studied, in a few words each. Of the `result` the page shows the
    provenance (`tl_jax.runs.results.provenance`) and, if it has one, the `config`.
    """
    html.require()
    directory, config = pathlib.Path(directory), result.get("config")
    tables = [table for section in sections for table in section.tables]
    pictures = [picture for section in sections for picture in section.pictures]
    files = [(f"{table.name}.csv", html.encoded(_csv(table))) for table in tables]
    files += [file for picture in pictures for file in picture.files.items()]
    contents = dict(files)
    if len(contents) < len(files):
        raise ValueError(f"of these some would share a file: {[name for name, _ in files]}")
    for name, content in files:
        html.put(directory / name, content)
    page = html.render(
        "study.html.j2",
        title=title,
        lead=lead,
        sections=sections,
        facts=facts,
        result=result,
        config=json.dumps(config, indent=2, default=str, ensure_ascii=False) if config else "",
        uri=lambda kind, name: html.uri(kind, contents[name]),
        numeric=_numeric,
        shown=_shown,
    )
    return html.put(directory / "report.html", page)


def _csv(table: Table) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])
    return file.getvalue()


def file_name(words: str) -> str:
    """Return words as a part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in words)


def _shown(table: Table) -> list[list[str]]:
    """The heading and the rows as text."""
    units = [table.hundredths.get(column) for column in table.columns]
    heads = zip(table.columns, units, strict=True)
    rows = [
        [
            text.cell(x) if unit is None else text.hundredths(x)
            for x, unit in zip(row, units, strict=True)
        ]
        for row in table.rows
    ]
    return [[f"{column}, {unit}" if unit else column for column, unit in heads], *rows]


def _numeric(table: Table) -> list[bool]:
    """Of each column, whether it has numbers only, which stand flush right."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [all(x is None or isinstance(x, numbers.Real) for x in column) for column in columns]
