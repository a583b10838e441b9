"""What layers are, as text by which their kept outputs are found again."""

import dataclasses
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
import small

from tl_jax import models
from tl_jax.base.load import load_base
from tl_jax.chain import code
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.engine import prefix
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.measure.features import of_layers
from tl_jax.models.layers import Conv


def told(module: nn.Module) -> str:
    return code.told(Network((Layer("a", module),)).layers)


class Wrapped(nn.Module):
    """A module with a field of any value."""

    value: object

    def __call__(self, x):
        return x


def doubled(x):
    return 2 * x


def scaled(x, by=1.0):
    return by * x


@dataclasses.dataclass(frozen=True)
class Scale:
    by: float


DIFFERENT = [
    None, 1, 1.0, True, "1", (1, 2), [1, 2], {"a": 1}, {"a": 2}, frozenset({"a", "b"}), np.float32,
    np.dtype("float32"), jax.lax.Precision.HIGH, jax.nn.relu, jax.nn.relu6, np.maximum, doubled,
    scaled, functools.partial(scaled), functools.partial(scaled, by=2.0),
    functools.partial(scaled, by=3.0), Scale(1.0), Scale(2.0), nn.Dense(3), nn.Dense(4),
    nn.Dense(3, kernel_init=nn.initializers.normal(0.1)),
    nn.Dense(3, kernel_init=nn.initializers.normal(0.2)),
]  # fmt: skip


def test_what_differs_in_a_field_is_told_apart():
    texts = [told(Wrapped(value)) for value in DIFFERENT]
    assert len(set(texts)) == len(texts)
    assert "0x" not in "".join(texts)


def test_names_and_places_count():
    layers = small.chain().layers
    renamed = (layers[0]._replace(name="first"), layers[1]._replace(reads=("first",)))
    moved = (layers[0], layers[1]._replace(reads=("image",)))
    assert len({code.told(own) for own in (layers[:2], renamed, moved)}) == 3


def made_inside(slope):
    def leaky(x):
        return jax.numpy.maximum(x, slope * x)

    class Inside(nn.Module):
        def __call__(self, x):
            return x

    return leaky, Inside


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x,
        made_inside(0.1)[0],
        made_inside(0.1)[1](),
        functools.partial(scaled, by=lambda x: x),
        jax.jit(lambda x: x),
        functools.wraps(jax.nn.gelu)(lambda x: x),
        object(),
        Scale(1.0).__eq__,
        np.zeros(2),
    ],
)
def test_what_has_no_name_is_refused_in_a_line(value):
    with pytest.raises(UserError, match=r"^layer 'a' is made of .* at the top of a file") as error:
        told(Wrapped(value))
    assert "\n" not in str(error.value) and "0x" not in str(error.value)


TYPED = """
import flax.linen as nn
from tl_jax.chain import code
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.errors import UserError
class Typed(nn.Module):
    pass
try:
    code.told(Network((Layer("a", Typed()),)).layers)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("how", [["-c", TYPED], ["-"]])
def test_what_is_typed_in_is_refused(how):
    """Its code is in no file, and so another time might be another."""
    root = pathlib.Path(__file__).parent.parent
    options = {"cwd": root, "text": True, "check": True, "capture_output": True}
    done = subprocess.run([sys.executable, *how], input=TYPED, **options)
    assert done.stdout.startswith("layer 'a' is made of Typed, by which")


def test_two_activations_that_look_alike_do_not_share_an_output(tmp_path):
    """Both are `<lambda>` to a repr; what their outputs would be kept as is refused."""
    outputs = []
    for activation in (lambda x: x, lambda x: -x):
        chain = Network((Layer("conv", Conv(2, activation=activation)),))
        variables = chain.init(0, (1, small.SIZE, small.SIZE, 3))
        below = prefix.pixels(small.task(), small.PREPROCESSING, cache=tmp_path)
        options = {"examples": 8, "stored_views": (0,), "parallel": Parallel(), "dtype": "float32"}
        with pytest.raises(UserError, match="layer 'conv' is made of .*<lambda>"):
            prefix.features(chain, variables, below, "conv", cache=tmp_path, **options)
        outputs.append(chain.apply(variables, np.ones((1, 8, 8, 3), np.float32)).output)
    np.testing.assert_allclose(outputs[0], -outputs[1])


def test_every_base_of_the_zoo_is_told_at_once():
    for name in models.names():
        family = models.family(name)
        assert code.told(family.build(name, family.forms(name)[0]).layers)


OTHER_PROCESS = "import test_code; print(test_code.in_any_process())"


def in_any_process() -> str:
    """Of modules with partials, closures of JAX's and sets, which hash by the process."""
    values = [functools.partial(scaled, by=2.0), nn.Dense(3), frozenset("abcdef"), jax.nn.gelu]
    return told(Wrapped(tuple(values)))


def test_another_process_says_the_same():
    root = pathlib.Path(__file__).parent.parent
    env = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", OTHER_PROCESS]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(in_any_process())


FAMILY = """
import flax.linen as nn
import tl_jax
from {package}.helper import slope
from tl_jax.chain.heads import Classifier

class Leaky(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.leaky_relu(nn.Conv(4, (3, 3), use_bias=False)(x), slope())

def {package}(classes):
    layers = tl_jax.Layer("leaky", Leaky()), tl_jax.Layer("head", Classifier(classes))
    return tl_jax.Network(layers)
"""


@pytest.fixture
def own_family(tmp_path, monkeypatch):
    """A function that registers a family of a package on disk, and loads it, as it then is."""
    monkeypatch.setattr(models, "_families", lambda: families)
    monkeypatch.syspath_prepend(tmp_path)
    package, families = tmp_path / "own_family", {}
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.py").write_text(FAMILY.format(package="own_family"))

    def load(helper: str):
        (package / "helper.py").write_text(helper)
        for name in [name for name in sys.modules if name.partition(".")[0] == "own_family"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        families.clear()
        net = importlib.import_module("own_family.net")
        models.register_base(preprocessing=small.PREPROCESSING)(net.own_family)
        return load_base("own_family", "random:0")

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield load
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_family"]:
        del sys.modules[name]


def test_a_family_whose_code_changed_is_computed_again(own_family, tmp_path):
    """By a part that it imports, too; with the code as it was, what was kept is found."""

    def rows(helper):
        base = own_family(f"def slope():\n    return {helper}\n")
        found = of_layers(base, small.task(), layers=["leaky"], cache=tmp_path / "cache")
        return found["leaky"].rows

    first, kept = rows(0.0), set((tmp_path / "cache").iterdir())
    again = rows(0.0)
    assert set((tmp_path / "cache").iterdir()) == kept
    np.testing.assert_array_equal(again, first)
    changed = rows(-1.0)  # the absolute value
    assert len(set((tmp_path / "cache").iterdir()) - kept) == 1  # the images stay
    assert (changed > first).all()
