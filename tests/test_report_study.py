"""The report of a study says what the study found, whatever it is called, and gives the numbers."""

import base64
import csv
import io
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_report import Page

import tl_jax
from tl_jax.report import figures, study, text
from tl_jax.report.plots import Drawing
from tl_jax.report.study import Picture, Section, Table

EVIL = '"><script>alert(1)</script>\u202e\udcff{{7*7}}'
RESULT = {
    "command": "python -m experiments.layer_probes --config=x.py",
    "date": "2026-03-04",
    "versions": {"python": "3.11.9", "jax": "0.10.2"},
    "git": {"commit": "9f2c1e7", "dirty": True},
    "machine": {"cores": 2},
    "config": {"base": "resnet18"},
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
ROWS = [("conv1", 64, 0.123456789, np.float64(1 / 3)), ("conv,2", 12345, None, float("nan"))]
TABLE = Table("by_layer", "Accuracy by layer", ("layer", "D", "accuracy", "spread"), ROWS)


def section(**changes) -> Section:
    return Section("A title", "One.\n\nTwo.")._replace(**changes)


def written(folder, *sections, title="A study", facts=None, result=RESULT):
    path = study.write(
        folder, title=title, lead="A lead.", sections=sections, facts=facts or {}, result=result
    )
    assert path == folder / "report.html"
    return Page(path.read_text())


def svg_words(drawing: Drawing) -> list[str]:
    root = ET.fromstring(drawing.file("svg"))
    return ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_page_holds_all_that_was_given(tmp_path):
    figure = figures.against_depth(("a", "b"), {"ridge": np.ones((2, 3))}, label="accuracy")
    pictures = (Picture("depth", "a figure", figure), Picture("pixel", "an image", PIXEL))
    facts = {"base": "resnet18", "seeds": "5"}
    page = written(tmp_path, section(pictures=pictures, tables=(TABLE,)), facts=facts)
    for words in (
        "A study",
        "A lead.",
        "base resnet18 seeds 5",
        "A title One. Two.",
        "an image",
        "Accuracy by layer",
        "conv1 64 0.123 0.333 conv,2 12,345 – –",
        RESULT["command"],
        "9f2c1e7, with uncommitted changes",
        '"base": "resnet18"',
        "jax 0.10.2",
    ):
        assert words in page.text
    assert [i["src"] for i in page.all("img")] == [figure.uri, PIXEL]
    assert [i["src"] for i in page.all("img", "plot")] == [figure.uri]  # photographs stay dark
    assert len(page.all("td", "num")) == 2 * 3


def test_tables_are_to_be_had_as_csv_in_full(tmp_path):
    page = written(tmp_path, section(tables=(TABLE,)))
    (link,) = page.all("a")
    assert link["download"] == "by_layer.csv"
    kept = (tmp_path / "by_layer.csv").read_bytes()
    assert base64.b64decode(link["href"].split(",")[1]) == kept
    head, first, second = csv.reader(io.StringIO(kept.decode()))
    assert head == list(TABLE.columns) and first[0] == "conv1" and second[0] == "conv,2"
    assert [float(x) for x in first[1:]] == list(ROWS[0][1:])
    assert second[1:] == ["12345", "", "nan"]


def test_hostile_names_stay_text(tmp_path):
    table = Table("names", EVIL, (EVIL, "n"), [(EVIL, 1)])
    hostile = Section(EVIL, EVIL, (Picture("p", EVIL, PIXEL),), (table,))
    result = RESULT | {"command": EVIL, "config": {EVIL: EVIL}}
    page = written(tmp_path, hostile, title=EVIL, facts={EVIL: EVIL}, result=result)
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("img")) == 1 and "49" not in page.text
    # Title and heading, fact, section, paragraph, figure, caption, column, cell, command, config
    assert page.text.count("alert(1)") == 2 + 2 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 2
    assert "\\udcff" in (tmp_path / "names.csv").read_text()


def test_it_needs_nothing_from_outside(tmp_path):
    page = written(tmp_path, section(pictures=(Picture("p", "a picture", PIXEL),), tables=(TABLE,)))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "base"}
    assert all(a["src"].startswith("data:image/") for a in page.all("img"))
    assert all(a["href"].startswith("data:text/csv") for a in page.all("a"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["by_layer.csv", "p.png", "report.html"]


def test_a_long_table_is_folded_and_an_empty_one_is_shown(tmp_path):
    long = TABLE._replace(name="long", rows=ROWS * 20)
    page = written(tmp_path, section(tables=(long, TABLE._replace(rows=[]))))
    assert "40 rows" in page.text and len(page.all("table")) == 2


def test_a_study_without_sections_and_config(tmp_path):
    result = {k: v for k, v in RESULT.items() if k != "config"} | {"git": None}
    page = written(tmp_path, result=result)
    assert "Configuration" not in page.text and "git –" in page.text


def test_the_page_shows_percent_and_the_csv_keeps_fractions(tmp_path):
    rows = [("conv1", 0.84219, 0.0123, -0.05), ("pool", None, 0.0, float("nan"))]
    columns = ("layer", "test", "sd", "difference")
    units = {"test": "%", "sd": "points", "difference": "points"}
    page = written(tmp_path, section(tables=(Table("t", "T", columns, rows, units),)))
    assert "layer test, % sd, points difference, points" in page.text
    assert "conv1 84.2 1.2 -5.0 pool – 0.0 –" in page.text
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[:2] == ["layer,test,sd,difference", "conv1,0.84219,0.0123,-0.05"]


def test_every_picture_lies_beside_the_page(tmp_path):
    figure = figures.against_depth(("a", "b"), {"ridge": np.ones((2, 3))}, label="accuracy")
    pictures = (Picture("depth", "a figure", figure), Picture("pixel", "an image", PIXEL))
    page = written(tmp_path, section(pictures=pictures))
    assert "a figure depth" in page.text
    beside = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix != ".html"}
    assert sorted(beside) == ["depth.pdf", "depth.svg", "pixel.png"]
    assert beside["depth.pdf"].startswith(b"%PDF") and beside["pixel.png"][1:4] == b"PNG"
    assert "ridge" in svg_words(figure) and beside["depth.svg"] == figure.file("svg")


@pytest.mark.parametrize("given", ["tables", "pictures"])
def test_what_would_share_a_file_is_a_mistake(tmp_path, given):
    twice = {"tables": TABLE, "pictures": Picture("by_layer", "a picture", PIXEL)}[given]
    with pytest.raises(ValueError, match="by_layer"):
        written(tmp_path, section(**{given: (twice, twice)}))
    assert not list(tmp_path.iterdir())


def test_rows_that_do_not_fit_the_columns_are_a_mistake(tmp_path):
    with pytest.raises(ValueError):
        written(tmp_path, section(tables=(TABLE._replace(rows=[("a", 1), ("b",)]),)))


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        (np.int64(4107522), "4,107,522"),
        (7, "7"),
        (np.float32(0.12345), "0.123"),
        (0.6, "0.600"),
        (123.4, "123"),
        (1234.5, "1,234"),
        (0.0, "0.00"),
        (None, "–"),
        ("a\u202eb", r"a\u202eb"),
        (("a", 1), "('a', 1)"),
    ],
)
def test_cells(x, wanted):
    assert text.cell(x) == wanted


# ---- figures


def test_a_figure_against_depth_names_layers_series_and_levels():
    layers = [f"stage{i}" for i in range(14)]
    series = {"ridge": np.random.default_rng(0).random((14, 5)), "knn": np.full((14, 1), 0.5)}
    shown = figures.against_depth(
        layers, series, label="accuracy", dashed={"others": np.ones(14)}, levels={"chance": 0.1}
    )
    words = svg_words(shown)
    assert {*layers, "ridge", "knn", "others", "chance", "accuracy"} <= set(words)
    assert any(word.endswith("%") for word in words)


def test_of_very_many_layers_some_are_named():
    layers = [f"layer{i}" for i in range(200)]
    words = svg_words(figures.against_depth(layers, {"x": np.ones((200, 1))}, label="y"))
    assert 30 <= sum(word.startswith("layer") for word in words) <= 60


def test_a_heat_map_writes_few_values_and_shades_many():
    words = svg_words(
        figures.heat_map([[0.25, 1], [np.nan, 0]], ("r1", "r2"), ("c1", "c2"), label="CKA")
    )
    assert {"r1", "r2", "c1", "c2", "CKA", "0.25", "1.00", "0.00"} <= set(words)
    names = [f"layer{i}" for i in range(20)]
    shown = figures.heat_map(np.eye(20), names, names, label="CKA", along=("a", "b"))
    assert {*names, "a", "b"} <= set(svg_words(shown))


def test_plans_have_their_means_and_intervals_by_budget_beside_the_reference():
    """The reference has no figure at the second budget, and `few` no interval."""
    nothing = (float("nan"), float("nan"))
    series = {"scratch": [(0.5, 0.1), nothing], "few": [(0.7, float("nan")), (0.9, 0.2)]}
    drawing = figures.by_plan(("5", "all"), series, reference="scratch", label="accuracy")
    assert {"5", "all", "scratch", "few", "accuracy"} <= set(svg_words(drawing))
    figure = Figure()
    drawing.draw(figure)
    panels = figure.axes
    drawn = [[np.asarray(line.get_xdata()).tolist() for line in axes.lines] for axes in panels]
    assert drawn[0][:3] == [[0.5, 0.5], [0.4, 0.6], [0.5]] and drawn[0][4] == [0.7]
    np.testing.assert_allclose(drawn[1][3], (0.7, 1.1))
    assert panels[0].get_xlim() == panels[1].get_xlim() and panels[0].get_xlim()[1] == 1


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_figures_are_reproducible(form):
    drawn = [figures.heat_map(np.eye(3), "abc", "def", label="x").file(form) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_pages_are_imported_without_what_draws_them():
    pages = (pathlib.Path(tl_jax.__file__).parent / "studies").glob("*/page.py")
    names = sorted(f"tl_jax.studies.{page.parent.name}.page" for page in pages)
    assert len(names) > 4
    code = f"import sys, {', '.join(names)}; print({{'jinja2', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
