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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_readme_leads_to_every_document_and_a_chapter_to_its_pages(document):
    chapter = document.parent.with_suffix(".md")  # docs/beyond/growth.md: docs/beyond.md
    index = chapter if chapter in DOCUMENTS else ROOT / "README.md"
    named = f"]({document.relative_to(index.parent)})" in index.read_text()
    assert named or document == index
