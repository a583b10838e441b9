"""What documents say: examples in docstrings run, and links lead somewhere."""

import doctest
import pathlib
import re

import pytest

import tl_jax

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


@pytest.mark.parametrize("name", ["load_base", "Base", "load_task", "transfer", "Run"])
def test_the_examples_of_the_door_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = getattr(tl_jax, name)
    globs = {function.__name__: function}
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=globs)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_of_the_project(document):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    files = [link for link in links if not re.match(r"https?://", link)]
    missing = [link for link in files if not (document.parent / link).exists()]
    assert not missing


def test_the_contents_of_the_site_name_every_page_once():
    pages = sorted((ROOT / "docs").glob("**/*.md"))
    entries = [
        page.parent / f"{line}.md"
        for page in pages
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.M)
        for line in tree.splitlines()
        if not line.startswith(":")
    ]
    assert sorted([*entries, ROOT / "docs" / "index.md"]) == pages


def test_what_was_measured_of_a_claim_is_on_the_page_that_the_claim_leads_to():
    rows = [line.split(" | ") for line in (ROOT / "docs" / "claims.md").read_text().splitlines()]
    cells = [row[2] for row in rows if len(row) == 5 and "](" in row[2]]
    assert len(cells) == len([row for row in rows if len(row) == 5]) - 5  # the heads of tables
    for cell in cells:
        said, page = re.fullmatch(r"(.*)\[.*?\]\((.*?\.md).*", cell).groups()
        found = numbers((ROOT / "docs" / page).read_text())
        assert not numbers(re.sub("`.*?`", "", said)) - found, cell


def numbers(text: str) -> set[str]:
    """What is written in digits, without signs: a hyphen, a dash and a minus mean the same here."""
    return set(re.findall(r"(?<![\w.,])\d[\d.,]*(?<![.,])", text))
