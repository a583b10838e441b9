"""What documents say: examples in docstrings run, and links lead somewhere."""

import doctest
import importlib
import json
import pathlib
import re

import pytest

import tl_jax
from tl_jax.train import objectives

ROOT = pathlib.Path(__file__).parent.parent
MODULES_WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "tl_jax").glob("**/*.py")
    if ">>>" in path.read_text()
)
DOCUMENTS = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


@pytest.mark.parametrize("module", MODULES_WITH_EXAMPLES)
def test_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(importlib.import_module(module), module)
    results = [doctest.DocTestRunner().run(example) for example in found if example.examples]
    assert results and not any(result.failed for result in results)


@pytest.mark.parametrize("name", ["load_base", "Base", "load_task", "transfer", "Run"])
def test_what_the_door_is_for_has_an_example(name):
    assert ">>>" in getattr(tl_jax, name).__doc__


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


def test_the_api_has_every_name_of_the_door_and_every_objective():
    named = re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", page("api"), re.M)
    assert sorted(named) == sorted(f"tl_jax.{name}" for name in tl_jax.__all__ if name != "models")
    files = re.findall(r"^\.\. automodule:: (\S+)$", page("api/objectives"), re.M)
    known = [*objectives.OBJECTIVES.values(), *objectives.TERMS.values()]
    assert sorted(files) == sorted({one.__module__ for one in known})


def test_what_a_page_includes_of_another_document_is_there():
    blocks = [
        (document.parent / name, marker)
        for document in DOCUMENTS
        for name, options in re.findall(
            r"^```\{include\} (\S+)\n(.*?)^```", document.read_text(), re.DOTALL | re.M
        )
        for marker in re.findall(r'^:(?:start-after|end-before): "(.*)"$', options, re.M)
    ]
    assert blocks
    for document, marker in blocks:
        assert marker.replace("\\n", "\n") in document.read_text(), marker


def test_the_notebook_of_the_lab_is_its_text():
    notebook = json.loads((ROOT / "docs" / "lab.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    text = page("lab")
    assert cells == re.findall(r"^```\{code-cell\} ipython3\n(.*?)\n```$", text, re.DOTALL | re.M)


def test_what_was_measured_of_a_claim_is_on_the_page_that_the_claim_leads_to():
    rows = [line.split(" | ") for line in page("claims").splitlines()]
    cells = [row[2] for row in rows if len(row) == 5 and "](" in row[2]]
    assert len(cells) == len([row for row in rows if len(row) == 5]) - 5  # the heads of tables
    for cell in cells:
        said, source = re.fullmatch(r"(.*)\[.*?\]\((.*?)\.md.*", cell).groups()
        found = numbers(page(source))
        assert not numbers(re.sub("`.*?`", "", said)) - found, cell


def page(name: str) -> str:
    """The text of a page of the site."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def numbers(text: str) -> set[str]:
    """What is written in digits, without signs: a hyphen, a dash and a minus mean the same here."""
    return set(re.findall(r"(?<![\w.,])\d[\d.,]*(?<![.,])", text))
