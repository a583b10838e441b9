"""The house: a floor imports only floors below it, never beside it or above."""

import ast
import pathlib
from collections.abc import Iterator

import tl_jax

ROOT = pathlib.Path(tl_jax.__file__).parent
FLOORS = (
    {"errors", "interrupt", "progress"},  # the ground
    {"registry", "locks", "whole"},
    {"ops"},
    {"chain", "data", "stats"},
    {"weights", "engine", "plans", "report"},
    {"train", "models", "vectors"},
    {"base", "describe"},
    {"runs", "measure", "serving"},
    {"studies"},
    {"advice"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


# A base's methods `probe` and `transfer` stand on higher floors: it asks at the door for them.
THROUGH_THE_DOOR = "base/base.py"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`, which no run imports."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from nodes(node)


def imports(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Every module of tl_jax that a file imports, anywhere in it, and the line."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "tl_jax")


def test_every_file_stands_in_a_room_of_the_table():
    rooms = {path.stem for path in ROOT.iterdir() if path.name[0] != "_"}
    assert rooms == set(FLOOR)


def test_what_only_a_cpu_needs_is_behind_one_door():
    """Above `ops` only the heap is known; inside, operations call `dispatch` alone."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith("ops/cpu/"):
            names = {name for name, _ in imports(path) if name.startswith("tl_jax.ops.cpu.")}
            found |= {place: {name.split(".")[3] for name in names}} if names else {}
    assert found == {
        "__init__.py": {"xla"},
        "ops/channels.py": {"dispatch"},
        "ops/convolution.py": {"dispatch"},
        "ops/dense.py": {"dispatch"},
        "ops/norm.py": {"dispatch"},
        "ops/pooling.py": {"dispatch"},
        "ops/programs.py": {"constants", "cores", "onednn", "switch"},
        "runs/results.py": {"heap", "switch"},
        "train/work.py": {"heap"},
    }


def test_imports_run_downwards():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.as_posix() in ("__init__.py", "__main__.py"):  # the door, above them all
            continue
        own = place.parts[0].removesuffix(".py")
        for name, line in imports(path):
            if name == "tl_jax" and place.as_posix() == THROUGH_THE_DOOR:
                continue
            room = (name.split(".") + [""])[1]
            if room != own and FLOOR.get(room, len(FLOORS)) >= FLOOR[own]:
                wrong.append(f"{place}:{line} imports {name}")
    assert not wrong


def parts(path: pathlib.Path) -> Iterator[tuple[str, str, int]]:
    """Every study and file of a study that a file imports: (study, file, line)."""
    for name, line in imports(path):
        if name.startswith("tl_jax.studies."):
            study, part = (name.split(".") + [""])[2:4]
            yield study, part, line


def test_a_study_knows_no_other_and_computing_does_not_know_showing():
    wrong = []
    for path in sorted((ROOT / "studies").rglob("*.py")):
        apart = {"study": "page", "page": "study"}.get(path.stem)
        for study, part, line in parts(path):
            if study != path.parent.name or part == apart:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {study}.{part}")
    assert not wrong


SOURCES = [
    path
    for folder in ("tl_jax", "experiments", "configs", "benchmarks")
    for path in sorted((ROOT.parent / folder).rglob("*.py"))
]


def test_files_have_400_lines_at_most_and_programs_80():
    found = []
    for path in SOURCES:
        name = path.relative_to(ROOT.parent).as_posix()
        most = 80 if name.startswith("experiments/") else 400
        if len(path.read_text().splitlines()) > most:
            found.append(name)
    assert not found


def test_functions_have_60_lines_at_most():
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                found.append(f"{path.relative_to(ROOT.parent)}: {node.name}")
    assert not found
