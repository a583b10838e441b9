"""What is wrong with a config is said before data or weights are read."""

import programs
import pytest

from experiments import arguments, cli, config_flag, transfer
from tl_jax.base.load import load_base, outline
from tl_jax.errors import UserError
from tl_jax.runs import subject
from tl_jax.runs.config import load_config
from tl_jax.studies.layer_transfer import subsets

BASES = {"bases.random.cuts": ("stage2_block2", "stage3_blok2")}
WRONG = [
    ("layer_probes", {"layers": ("stem", "stage1_blok1")}, "did you mean 'stage1_block1'"),
    ("layer_probes", {"pool": "max"}, "pool is mean or adaptive"),
    ("layer_probes", {"base": "efficientnet_lite"}, "unknown base"),
    ("layer_probes", {"probes": ("logistik",)}, "did you mean 'logistic'"),
    ("look", {"layer": "stage1_blok1"}, "did you mean 'stage1_block1'"),
    ("look", {"channel": 10_000}, "it has 0 to"),
    ("look", {"maps": ("pca",)}, "unknown map 'pca'"),
    ("look", {"image": "/nowhere.png"}, "no such image: /nowhere.png"),
    ("look", {"size": 1_000_000}, "size="),
    ("similarity", {"pool": "adaptive"}, "pool is mean or adaptive"),
    ("similarity", {"others.random.base": "resnet51"}, "unknown base 'resnet51'"),
    ("score_vs_accuracy", BASES, "did you mean 'stage3_block2'"),
    ("score_vs_accuracy", {"from_layer": "stage9"}, "unknown layer 'stage9'"),
    ("layer_transfer", {"layers": ("conv9",)}, "'conv9'"),
    ("layer_transfer", {"base": "alexnet_smal"}, "unknown base"),
    ("layer_transfer", {"arms": ("low:hihg",)}, "unknown group of classes"),
    ("layer_transfer", {"epochs": ()}, "as many epochs as budgets"),
    ("layer_transfer", {"arms": ("tasks",)}, "needs the task of base A: source.name="),
    ("transfer", {"cut": "stage1_blok1"}, "did you mean 'stage1_block1'"),
    ("transfer", {"cut": "head"}, "would keep the old classifier"),
    ("transfer", {"from_layer": "stage1_blok1"}, "unknown layer 'stage1_blok1'"),
    ("transfer", {"from_layer": "1.5"}, "unknown layer '1.5'"),
    ("transfer", {"plan": "ful"}, "did you mean 'full'"),
    ("transfer", {"head": "liner"}, "did you mean 'linear'"),
    ("transfer", {"objective": "cross_entropi"}, "did you mean 'cross_entropy'"),
    ("transfer", {"cache_dtype": "float61"}, "did you mean 'float16'"),
    ("transfer", {"cache_precision": "float61"}, "unknown cache_precision 'float61'"),
    ("layer_probes", {"cache_precision": "bfloat61"}, "did you mean 'bfloat16'"),
]


@pytest.fixture
def nothing_is_read(monkeypatch):
    def read(*args, **kwargs):
        raise AssertionError("data or weights were read")

    for module, name in ((subject, "load_task"), (subject, "load_base"), (subsets, "task_of")):
        monkeypatch.setattr(module, name, read)


@pytest.mark.parametrize(("program", "changes", "said"), WRONG)
def test_a_wrong_setting_is_said_at_once(nothing_is_read, tmp_path, capsys, program, changes, said):
    own = "digits" if program == "transfer" else f"{program}_digits"
    config = load_config(str(programs.ROOT / f"configs/{own}.py"))
    config.update_from_flattened_dict({"cache": str(tmp_path)} | changes)

    def main(argv):
        if program == "transfer":
            return transfer.transfer(config, tmp_path / "run", "name")
        return config_flag.run(program, config, tmp_path / "run", "name")

    assert cli.status(main, []) == 2
    assert said in programs.error_line(capsys.readouterr().err)


def test_an_outline_is_the_base_without_its_weights(tmp_path):
    """Of a name and of a saved file, cut and with a head."""
    base = load_base("resnet18", "random:0").resized(64)
    cut = base.with_head(3, cut="stage2_block1", head="vgg_head")
    cut.save(tmp_path / "model.safetensors")
    for found, wanted in (
        (outline("resnet18").resized(64), base),
        (outline("resnet18", tmp_path / "model.safetensors"), cut),
        (outline(tmp_path), cut),
    ):
        assert found.layers == wanted.layers and found.preprocessing == wanted.preprocessing
        assert found.resized(64).bottleneck == wanted.bottleneck
        headed = found.with_head(5), wanted.with_head(5)
        assert headed[0].layers == headed[1].layers


def test_a_damaged_file_is_refused_by_its_header(tmp_path):
    path = tmp_path / "model.safetensors"
    load_base("resnet18", "random:0").cut("stem").save(path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"resnet18", b"resnet1x"))
    with pytest.raises(UserError, match="resnet1"):
        outline(path)


def config(**task):
    found = load_config(str(programs.ROOT / "configs/layer_probes.py"))
    found.update_from_flattened_dict({f"task.{key}": value for key, value in task.items()})
    return found


def test_a_configs_options_of_another_task_are_left_out(capsys):
    """Its own stay, and what the command line gives itself, to be refused."""
    for given, targets in (
        ({"name": "folder", "path": "photos"}, ""),
        ({"name": "folder", "targets": "soft"}, "soft"),
        ({"name": "elpv"}, "graded"),
        ({"val": 0.3}, "graded"),
    ):
        changed = config(**given)
        arguments.settle_task(changed, {f"task.{key}" for key in given})
        assert changed.task.targets == targets
        assert changed.task.path == given.get("path", "")
        assert ("task.targets='graded'" in capsys.readouterr().err) == (not targets)
    with pytest.raises(UserError, match="did you mean 'folder'"):
        arguments.settle_task(config(name="foldr"), {"task.name"})
