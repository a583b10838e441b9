"""The report of a study: one HTML page of text, figures and tables, and files of each."""

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
    """A table on the page and in a CSV file."""

    name: str  # of its CSV file, without .csv; unique in a report
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple]  # numbers, text or None; three digits on the page, all in the CSV
    # Columns of fractions that the page shows times 100, with their unit: "%", or "points" for
    # differences, deviations and half-widths of fractions. The CSV has the fractions.
    hundredths: Mapping[str, str] = {}


class Picture(NamedTuple):
    """A figure, or an image."""

    name: str  # of its files, without .svg, .pdf, .png or .jpeg
    caption: str
    image: Drawing | str  # or a data URI from html.png or html.jpeg

    @property
    def files(self) -> dict[str, bytes]:
        """The files beside the page: SVG and PDF of a figure, the image file of an image."""
        if isinstance(self.image, Drawing):
            return {f"{self.name}.{form}": self.image.file(form) for form in ("svg", "pdf")}
        kind, _, content = self.image.removeprefix("data:image/").partition(";base64,")
        return {f"{self.name}.{kind}": base64.b64decode(content)}


class Section(NamedTuple):
    """A heading and its content."""

    title: str
    text: str  # paragraphs, separated by empty lines
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

    `facts` describe the study in a few words each. The page shows the provenance of the `result`
    (`tl_jax.runs.results.provenance`) and its `config`, if it has one.
    """
    html.require()
    directory, config = pathlib.Path(directory), result.get("config")
    tables = [table for section in sections for table in section.tables]
    pictures = [picture for section in sections for picture in section.pictures]
    files = [(f"{table.name}.csv", html.encoded(_csv(table))) for table in tables]
    files += [file for picture in pictures for file in picture.files.items()]
    contents = dict(files)
    if len(contents) < len(files):
        raise ValueError(f"some of these would share a file: {[name for name, _ in files]}")
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
    """Return the words as a part of a file name."""
    return "".join(c if c.isalnum() else "_" for c in words)


def _shown(table: Table) -> list[list[str]]:
    """Return the heading and the rows as text."""
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
    """Return whether each column has only numbers, which are then set flush right."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [all(x is None or isinstance(x, numbers.Real) for x in column) for column in columns]
