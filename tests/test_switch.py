"""TL_JAX_CPU=plain switches off everything that only a CPU needs, and changes no number by much."""

import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from tl_jax import ops
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.models.layers import Conv, InvertedResidual, MaxPool, Stem
from tl_jax.ops.cpu import xla


class Mean(nn.Module):
    """Average pooling."""

    @nn.compact
    def __call__(self, x):
        return ops.avg_pool(x, 2, 2)


CHAIN = Network(
    (
        Layer("stem", Stem(16)),
        Layer("narrow", InvertedResidual(48, 16)),
        Layer("strided", InvertedResidual(48, 24, stride=2)),
        Layer("pool", MaxPool(3, 2)),
        Layer("wide", Conv(64, 3, stride=2, padding=1)),
        Layer("mean", Mean()),
    )
)


def numbers() -> dict[str, np.ndarray]:
    """What every operation gives: outputs in inference, and gradients with batch statistics."""
    x = np.random.default_rng(0).standard_normal((4, 96, 96, 3), np.float32)
    variables, rng = CHAIN.init(0, x.shape), np.random.default_rng(1)
    head = rng.standard_normal((64, 2), np.float32)
    dimensions = (((1,), (0,)), ((), ()))

    def outputs(variables, batch):
        return {"output": CHAIN.apply(variables, batch["image"]).output}

    def loss(params, head):
        y = CHAIN.apply({**variables, "params": params}, x, train=True).output.mean((1, 2))
        return jnp.square(ops.dot_general(y, head, dimensions)).sum()

    found = dict(ops.inference(outputs)(variables, {"image": x}))
    gradients = jax.jit(jax.grad(loss, (0, 1)))(variables["params"], head)
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    return found | {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


PLAIN = """
import os, pathlib, sys
import jax, numpy as np
import test_switch
from tl_jax.ops.cpu.onednn import library
np.savez(sys.argv[1], **test_switch.numbers())
assert "ynn" not in os.environ.get("XLA_FLAGS", "")
assert library.library.cache_info().misses == 0, "it looked for oneDNN"
assert "dnnl" not in pathlib.Path("/proc/self/maps").read_text()
"""


def environment(**variables: str) -> dict[str, str]:
    """For a process that begins as a user's does: this one's import of tl_jax has set a flag."""
    others = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    path = os.pathsep.join([str(pathlib.Path(__file__).parent), str(programs.ROOT)])
    return others | {"PYTHONPATH": path} | variables


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what is loaded")
def test_plain_forms_give_the_same_numbers_without_onednn(tmp_path):
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "plain.npz")]
    variables = environment(TL_JAX_CPU="plain")
    subprocess.run(command, env=variables, cwd=programs.ROOT, check=True, timeout=300)
    fast = numbers()
    with np.load(tmp_path / "plain.npz") as plain:
        assert set(plain) == set(fast)
        for name, wanted in plain.items():
            # Where the next norm undoes a scale, its gradient is a sum of hundreds that cancel.
            atol = 5e-5 * max(np.abs(wanted).max(), 10)
            np.testing.assert_allclose(fast[name], wanted, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("variable", ["TL_JAX_CPU=plian", "TL_JAX_RESTART=of"])
def test_a_wrong_value_is_one_line(variable):
    ended = programs.run("predict", "--help", env=environment(**dict([variable.split("=")])))
    name, value = variable.split("=")
    meant = {"plian": "plain", "of": "off"}[value]
    wanted = f"unknown {name} {value!r}; did you mean {meant!r}?"
    assert (ended.returncode, programs.error_line(ended.stderr)) == (2, wanted)


def test_a_wrong_value_does_not_prevent_an_import_but_the_first_operation():
    code = (
        "import jax.numpy as jnp, tl_jax\n"
        "from tl_jax import ops\n"
        "try: ops.conv(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 5)))\n"
        "except tl_jax.UserError as error: print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(TL_JAX_CPU="quick"), cwd=programs.ROOT,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert ended.stdout == "unknown TL_JAX_CPU 'quick'; known: fast, plain\n"


def test_a_flag_that_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(
        "XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT"
    )
    before = os.environ["XLA_FLAGS"]
    xla.set_flag()
    assert os.environ["XLA_FLAGS"] == before


@pytest.mark.parametrize("version", ["0.10.1", "0.11.0", ""])
def test_no_flag_for_a_jaxlib_that_was_not_tested(monkeypatch, caplog, version):
    """XLA ends the process over a flag that it does not know."""
    monkeypatch.setenv("XLA_FLAGS", "--other=1")
    monkeypatch.setattr(xla, "jaxlib_version", lambda: version)
    with caplog.at_level("DEBUG"):
        xla.set_flag()
    assert os.environ["XLA_FLAGS"] == "--other=1"
    assert [r.levelname for r in caplog.records] == ["DEBUG"] and version in caplog.text
    for tested in xla.TESTED:
        monkeypatch.setenv("XLA_FLAGS", "--other=1")
        monkeypatch.setattr(xla, "jaxlib_version", lambda version=tested: version)
        xla.set_flag()
        assert os.environ["XLA_FLAGS"] == "--other=1 --xla_cpu_experimental_ynn_fusion_type="


def test_the_pinned_jaxlib_is_a_tested_one():
    pins = (programs.ROOT / "constraints.txt").read_text()
    assert any(f"\njaxlib=={version}\n" in pins for version in xla.TESTED)


def test_operations_need_jax_only_when_they_are_used():
    code = "import sys, tl_jax.ops, experiments.cli; print('jax' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=programs.ROOT, text=True) == "False\n"
