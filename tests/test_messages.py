"""What errors call a setting: `name=` in the library, a flag at the command line."""

import ast
import pathlib
import shutil
from types import SimpleNamespace

import programs
import pytest

import tl_jax
from experiments import arguments
from tl_jax.errors import UserError
from tl_jax.runs.config import flat, load_config

LIBRARY = pathlib.Path(tl_jax.__file__).parent
KEYS = list(flat(load_config(str(programs.ROOT / programs.CONFIG))))


def texts(tree: ast.AST) -> list[str]:
    """The strings of a program that are no docstrings."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(first.value) for first, *_ in bodies if isinstance(first, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [c.value for c in constants if isinstance(c.value, str) and id(c) not in docstrings]


def test_the_library_knows_no_flags():
    found = [
        f"{path.relative_to(LIBRARY)}: {text}"
        for path in sorted(LIBRARY.rglob("*.py"))
        for text in texts(ast.parse(path.read_text()))
        if "--config" in text or "--workdir" in text
    ]
    assert not found


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("take cache= or workdir=", "take --config.cache= or --workdir="),
        ("does not fit: cache_dtype=float32", "does not fit: --config.cache_dtype=float32"),
        ("or path=...", "or --config.task.path=..."),
        ("or task.path=x", "or --config.task.path=x"),
        ("learning_rate=3 of one phase", "learning_rate=3 of one phase"),  # both have it
        ("--config.seed=3 and a/seed=3", "--config.seed=3 and a/seed=3"),
        ("smoothing=0.1", "smoothing=0.1"),
    ],
)
def test_settings_are_named_as_flags(message, flags):
    assert arguments.as_flags(message, KEYS) == flags


def full(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    return {"cache": "empty"}


FAULTS = {
    "the_disk_is_full": (full, "another disk (cache=, workdir=)"),
    "dropout_is_no_share": (lambda monkeypatch: {"dropout": 1.0}, "a share from 0 to below 1"),
    "another_run": (lambda monkeypatch: {"seed": 1}, "take another folder (workdir=)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_fault_at_both_entrances(fault, given, done, tmp_path, capsys, monkeypatch):
    """The Python user reads a keyword, the other a flag; the lines are else the same."""
    monkeypatch.chdir(tmp_path)
    make, said = FAULTS[fault]
    changed, workdir = make(monkeypatch), tmp_path / "run"
    if fault == "another_run":
        workdir = shutil.copytree(done, workdir)
    assert programs.transferred(given | flat(changed), workdir) == 2
    flags = programs.error_line(capsys.readouterr().err)
    assert arguments.as_flags(said, KEYS) in flags
    base = tl_jax.load_base("efficientnet_lite0", "random:0").resized(32)
    task = tl_jax.load_task("folder", path=str(given["task.path"]), seed=0)
    settings = {"cut": programs.SMALL["cut"], "from_layer": programs.SMALL["from_layer"]}
    settings |= {"cache": str(given["cache"]), "batch_size": 8} | changed
    with pytest.raises(UserError) as error:
        tl_jax.transfer(base, task, workdir=workdir, **settings)
    assert said in str(error.value) and "--" not in str(error.value)
