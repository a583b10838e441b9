"""The benchmark's own worker, and the page that is made of its rows; PyTorch is not needed here."""

import json
import subprocess
import sys

import programs
import pytest

from benchmarks import gpu_table, table
from benchmarks.measure import line
from benchmarks.rows import NETS
from tl_jax import models


def row(net, train, ours, peer, *, idle=True):
    return {
        "base": net,
        "train": train,
        "batch": 16,
        "precision": "float32",
        "ours": ours,
        "peer": peer,
        "peer_is": "eager",
        "ratio": ours / peer,
        "spread": {"ours": [ours - 1, ours + 1], "eager": [peer, peer], "compiled": [1, 2]},
        "turns": [{"rate": ours, "system_seconds": 0.0}] * 3,
        "peak_bytes": {"ours": 2**30, "eager": 2**31, "compiled": 0},
        "said": {"ours": {"compile_seconds": 3.21, "flops": 32e9, "bytes": 16e9}},
        "idle": idle,
        "busy_cores_before": 0.0 if idle else 1.25,
    }


def test_the_page_has_a_table_a_way_with_the_geometric_mean(monkeypatch):
    monkeypatch.setattr(table, "PACKAGES", ("jax",))
    rows = [row("vgg16", "none", 8, 4), row("resnet50", "none", 4, 8), row("vgg16", "all", 9, 3)]
    page = table.document(rows)
    assert "the median of 3 turns" in page
    speed = "| vgg16 | 16 float32 | 8.0 (7.0 to 9.0) | 4.0 (4.0 to 4.0), eager | 2.00 |"
    assert f"{speed}  | 1.0, 2.0 | 16, 8 | 3.2 |" in page
    assert page.count("| geometric mean |") == 2
    assert "**1.00**" in page and "**3.00**" in page  # sqrt(2 * 0.5), 3
    assert "last stage" not in page


def test_bfloat16_has_a_table_of_its_own_and_is_compared_with_float32_too(monkeypatch):
    monkeypatch.setattr(table, "PACKAGES", ("jax",))
    rows = [row("vgg16", "none", 8, 4), row("resnet50", "none", 4, 8)]
    rows += [r | {"precision": "bfloat16", "ours": 16, "ratio": 2.5} for r in rows]
    page = table.document(rows)
    assert "## Inference, bfloat16" in page
    assert page.count("**1.00**") == 1 and page.count("**2.50**") == 1
    assert "Over PyTorch in float32, of 2 nets: **2.83**." in page  # sqrt(16 / 4 * 16 / 8)
    assert "float32, of" not in table.document(rows[2:])


def test_a_machine_that_was_not_idle_is_said():
    assert "NOT idle: 1.2 cores busy" in line(row("vgg16", "all", 9, 3, idle=False))
    assert "idle" not in line(row("vgg16", "all", 9, 3))


def test_the_table_of_a_gpu_names_the_rows_that_there_was_no_time_for(monkeypatch):
    def measured(net, way, batch, precision, *, turns):
        assert (batch, turns) == (128, 3)
        return row(net, way, 9, 3) | {"precision": precision, "cached_ratio": 4.0}

    minutes = iter([0, 1, 9, *[11] * 20])
    monkeypatch.setattr(gpu_table, "measure", measured)
    monkeypatch.setattr(gpu_table.time, "monotonic", lambda: 60 * next(minutes))
    lines = gpu_table.table(10.0, 128, 3)
    told = "9 (8 to 10) | 3 (3 to 3), eager | **3.00** | 4.00 |"
    assert lines[2:4] == [f"| resnet50 | all | {name} | {told}" for name in ("bfloat16", "tf32")]
    assert lines[-1].startswith("No time was left for resnet50 all float32, resnet50 none bfloat16")
    assert len(lines[-1].split(",")) == len(gpu_table.ROWS) - 2


def test_without_a_gpu_the_table_of_one_is_refused():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=programs.ROOT)
    assert refused.returncode == 2
    assert "JAX finds a cpu here" in refused.stderr


def test_last_stages_begin_with_layers_that_there_are():
    for name, net in NETS.items():
        family = models.family(name)
        assert net.last in family.build(name, family.forms(name)[0]).names


@pytest.mark.parametrize(
    ("train", "cached"), [("last", True), ("none", False), ("head", True), ("all", False)]
)
@pytest.mark.slow
def test_our_worker_takes_steps_on_command(train, cached):
    spec = {"base": "mobilenet_v2", "train": train, "batch": 2, "size": 32, "cached": cached}
    spec["precision"] = "float32"
    command = [sys.executable, "-m", "benchmarks.ours"]
    given = f"{json.dumps(spec)}\n1\n2\n"
    ended = subprocess.run(
        command, input=given, capture_output=True, text=True, cwd=programs.ROOT, timeout=300
    )
    said, *answers = map(json.loads, ended.stdout.splitlines())
    assert said["flops"] > 0 and said["compile_seconds"] > 0
    assert len(answers) == 2 and all(answer["seconds"] > 0 for answer in answers)
    assert all(answer["system_seconds"] >= 0 for answer in answers)
