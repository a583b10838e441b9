"""Command lines and configs that are wrong: one clear line, status 2; and --help."""

import ast
import re
import shutil
import subprocess
import sys

import programs
import pytest

from experiments import cli
from tl_jax.errors import UserError
from tl_jax.runs.config import flat, load_config

DIGITS = "--config=configs/digits.py"
WRONG = [
    ([], r"which run\? --config="),
    (["--config.seed=3"], r"--config\.seed of which config\?"),
    (["--config.seed=3", DIGITS], r"--config\.seed=3 in argv before .*--config"),
    ([DIGITS, "--config.bacth_size=3"], r"unknown config key 'bacth_size'; .*'batch_size'"),
    ([DIGITS, "--config.train_head.epoch=3"], r"key 'train_head.epoch'; .*'train_head.epochs'"),
    (["--config", "configs/digits.py", "--config.head.x", "3"], "unknown config key 'head.x'"),
    ([DIGITS, "--config.tune=3"], "unknown config key 'tune'; did you mean 'tune."),
    ([DIGITS, "--config.seed=x"], r"--config\.seed=x: .*'x'"),
    ([DIGITS, "--config.size=3.5"], r"--config\.size=3\.5: .*'3\.5'"),
    ([DIGITS, "config.seed=1"], r"unexpected argument 'config.seed=1'; .*--config\.seed=3"),
    ([DIGITS, "--wrkdir=x"], "'wrkdir'. Did you mean: workdir"),
    (["--config=configs/digts.py"], "config file 'configs/digts.py'; .*'configs/digits.py'"),
    (["--config=configs"], "unknown config file 'configs'"),
    (["--config"], "unknown config file ''; known: .*configs/digits.py"),
]


@pytest.mark.parametrize(("arguments", "error"), WRONG, ids=[" ".join(a) or "-" for a, _ in WRONG])
def test_a_command_line_that_is_wrong(tmp_path, arguments, error):
    workdir = tmp_path / "run"
    ended = programs.run("transfer", f"--workdir={workdir}", *arguments)
    assert ended.returncode == 2
    assert re.search(error, programs.error_line(ended.stderr))
    assert not workdir.exists() and not ended.stdout


LOCKED = "from configs import defaults\ndef get_config():\n  c = defaults.get_config()\n"
BROKEN = [
    ("def get_config():\n  return 1 +\n", r"line 2: SyntaxError"),
    ("def get_config():\n  return nam\n", r"line 2: NameError: name 'nam' is not defined"),
    ("import nonesuch\n", "line 1: ModuleNotFoundError: No module named 'nonesuch'"),
    (LOCKED + "  c.bacth_size = 3\n", 'line 4: AttributeError: .*Did you mean "batch_size"'),
    (LOCKED + "  c.seed = 'x'\n", "line 4: TypeError: .*seed"),
    (LOCKED, "gives no ConfigDict but NoneType"),
    ("x = 1\n", r"has no function get_config\(\)"),
    ("raise SystemExit('no')\n", "line 1: SystemExit: no"),
]


@pytest.mark.parametrize(("text", "error"), BROKEN, ids=[error for _, error in BROKEN])
def test_a_config_file_that_is_wrong(tmp_path, text, error):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=error) as raised:
        load_config(str(path))
    assert str(raised.value).startswith(str(path)) and len(str(raised.value)) < 400


def test_a_config_file_that_is_wrong_stops_the_program(tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN[3][0])
    ended = programs.run("transfer", f"--config={tmp_path}/mine.py")
    assert ended.returncode == 2
    assert re.search(BROKEN[3][1], programs.error_line(ended.stderr))


NAMES = [
    ("base", "efficientnet_lit0", "unknown base 'efficientnet_lit0'; .*'efficientnet_lite0'"),
    ("cut", "stage3_blok1", "unknown layer 'stage3_blok1'; .*'stage3_block1'"),
    ("cut", "head", "cut below it: 'pool'"),
    ("size", 100_000, "at most 4096"),
    ("task.name", "foldr", "unknown task 'foldr'; .*'folder'"),
    ("task.targets", "soft", "unknown option of task 'folder' 'targets'"),
    ("plan", "head_onyl", "unknown plan 'head_onyl'; .*'head_only'"),
    ("from_layer", "stage9_block1", "unknown layer 'stage9_block1'"),
    ("from_layer", "", "plan 'head_then_fine_tune' needs from_layer"),
    ("train_head.optimizer", "adam", "unknown optimizer 'adam'; .*'adamw'"),
    ("tune.learning_rate", 0.0, "learning_rate > 0; got .* 0.0"),
    ("head", "", "head= takes the name of a head; got ''"),
    ("objective", "cross_entropy(smoothing=2)", "smoothing= takes a share .* below 1; got 2"),
    ("objective", "cross_entropy(smoothing='a')", "smoothing= takes a number; got 'a'"),
    ("dropout", 1.5, "dropout .* 1.5"),
    ("batch_size", -8, "batch_size= takes a whole number, at least 1 .*; got -8"),
    ("seed", -1, "seed .* -1"),
    ("seed", 2**32, "from 0 to 4294967295; got 4294967296"),
    ("precision", "float17", "unknown precision 'float17'; .*'float32'"),
    ("parallel", "pmpa", "unknown parallel 'pmpa'; .*'pmap'"),
    ("test_views", "flop", "unknown views 'flop'; .*'flip'"),
    ("cache_dtype", "float8", "unknown cache_dtype 'float8'; .*'float32'"),
]


@pytest.mark.parametrize(("key", "value", "error"), NAMES)
def test_a_setting_that_is_wrong(given, tmp_path, capsys, key, value, error):
    assert programs.transferred(given | {"weights": "random:0", key: value}, tmp_path) == 2
    assert re.search(error, programs.error_line(capsys.readouterr().err))
    assert not (tmp_path / "result.json").exists() and not programs.checkpoints(tmp_path)


def test_a_config_file_is_looked_for_where_the_program_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no config file 'configs/elpv.py', nor any in ./configs"):
        load_config("configs/elpv.py")


def test_a_mistake_leaves_what_is_there_and_can_be_mended(given, done, tmp_path, capsys):
    workdir = shutil.copytree(done, tmp_path / "run")
    before = programs.contents(workdir)
    for changed, error in [
        ({"tune.epochs": 3}, "belongs to another config (tune.epochs 2, not 3)"),
        ({"seed": 1, "cut": "x"}, "(cut 'stage2_block1', not 'x'; seed 0, not 1)"),
    ]:
        assert programs.transferred(given | changed, workdir) == 2
        assert error in programs.error_line(capsys.readouterr().err)
    assert programs.contents(workdir) == before
    # Where nothing was computed yet, the corrected command may go to the same folder.
    assert programs.transferred(given | {"base": "efficientnet_lit0"}, tmp_path / "new") == 2
    assert programs.transferred(given, tmp_path / "new") == 0


def test_other_places_for_caches_are_no_other_config(done, given, tmp_path, capsys):
    workdir = shutil.copytree(done, tmp_path / "run")
    changed = {"cache": tmp_path / "elsewhere", "checkpoint_seconds": 1.0}
    assert programs.transferred(given | changed, workdir) == 0
    assert "done before" in capsys.readouterr().out


PROGRAMS = sorted(
    path.stem
    for path in (programs.ROOT / "experiments").glob("*.py")
    if "cli.run(" in path.read_text()
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_quick(program, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    ended = programs.run(program, "--help")
    assert ended.returncode == 0
    assert f"python -m experiments.{program} " in ended.stdout
    imported = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
    assert "absl.flags" in imported
    assert not imported & {"jax", "flax", "optax", "orbax.checkpoint", "sklearn", "grain", "PIL"}


def test_help_of_a_transfer_explains_every_key_of_its_config():
    """Against the config itself: each key, with its default, and a comment for nearly all."""
    config = load_config(str(programs.ROOT / "configs" / "defaults.py"))
    out = programs.run("transfer", "--help").stdout
    listed = dict(re.findall(r"^  ([\w.]+) = (.+)$", out, re.MULTILINE))
    for key, value in flat(config).items():
        name = re.sub(r"^(train_head|tune)\.", "", key)
        assert name in listed, key
        if not key.startswith("tune."):  # whose rate is another
            assert ast.literal_eval(listed[name]) == value, key
    assert "decoupled; kernels only" in out and "the last layer kept" in out
    assert "the share of the layers that are below" in out


def test_what_is_no_users_mistake_is_a_traceback():
    def main(argv):
        raise OSError("not of a file")

    with pytest.raises(OSError, match="not of a file"):
        cli.status(main, [])


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])
def test_too_little_memory_is_said(kind, capsys):
    error = kind("RESOURCE_EXHAUSTED: 18 MiB")

    def main(argv):
        raise error

    assert cli.status(main, []) == 2
    said = programs.error_line(capsys.readouterr().err)
    assert "not enough memory" in said and "18 MiB" in said and "smaller batch_size" in said


def test_a_device_that_is_not_there_is_said(done, photos, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    ended = programs.run("predict", f"--run={done}", photos / "bar" / "0.jpg")
    assert ended.returncode == 2
    assert "does not start with JAX_PLATFORMS='cuda'" in programs.error_line(ended.stderr)


def test_output_may_be_closed(tmp_path):
    describe = "-m experiments.describe --base=alexnet"
    command = f"exec '{sys.executable}' {describe} --csv={tmp_path}/a.csv >&- 2>&-"
    ended = subprocess.run(["sh", "-c", command], cwd=programs.ROOT)
    assert ended.returncode == 0 and (tmp_path / "a.csv").read_text().count("conv") > 4
