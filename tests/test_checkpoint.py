import errno
import gc
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tl_jax.engine import checkpoint
from tl_jax.errors import UserError

ROOT = Path(checkpoint.__file__).parent.parent


def make_state(step):
    key = jax.random.key(step)
    head = {"kernel": jax.random.normal(key, (32, 10)), "bias": jnp.zeros(10)}
    params = {"conv1": {"kernel": jax.random.normal(key, (3, 3, 3, 8))}, "head": head}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return {
        "params": params,
        "half": head["kernel"].astype(jnp.bfloat16),
        "opt": optimizer.init(params),
        "key": key,
        "streams": jax.random.split(jax.random.key(step, impl="rbg"), 3),
        "step": step,
        "ema": 0.5 * step,
        "done": False,
        "empty": {"nothing": None},
        "order": np.arange(7, dtype=np.int64) + step,
        "mask": jnp.array([True, False]),
        "scalar": np.float32(step),
    }


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x, state
    )


def restore(directory, template=None):
    template = abstract(make_state(0)) if template is None else template
    return checkpoint.restore_latest(directory, lambda meta: template)


def raw(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b))
        assert isinstance(a, jax.Array) == isinstance(b, jax.Array)
        np.testing.assert_array_equal(raw(a), raw(b))


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def flip(path, position, mask):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


@pytest.fixture
def two(tmp_path):
    """A run's folder with steps 10 and 20."""
    for step in (10, 20):
        checkpoint.save(tmp_path, step, make_state(step), {"epoch": step // 10, "note": "é"})
    return tmp_path


def run_child(code, *args, **kw):
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, **kw)


def test_round_trip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meta = {"phase": 1, "history": [0.1, float("inf")], "config": {"lr": 1e-3}, "at": (2, 3), 7: 8}
    checkpoint.save("new/run", 5, make_state(5), meta)  # relative, and not there yet
    restored = restore("new/run")
    assert restored.step == 5
    assert_same(restored.state, make_state(5))
    assert restored.meta == checkpoint.latest_meta("new/run") == {
        "phase": 1, "history": [0.1, float("inf")], "config": {"lr": 1e-3}, "at": [2, 3], "7": 8}
    draws = [jax.random.normal(state["key"], (4,)) for state in (restored.state, make_state(5))]
    np.testing.assert_array_equal(*draws)


def test_template_follows_meta(tmp_path):
    """The optimizer's state differs by phase: only meta can say which template to build."""
    optimizers = {"head": optax.sgd(0.1, momentum=0.9), "all": optax.adam(0.1)}
    params = {"w": jnp.arange(3.0)}
    for step, phase in ((1, "head"), (2, "all")):
        checkpoint.save(tmp_path, step, optimizers[phase].init(params), {"phase": phase})
    restored = checkpoint.restore_latest(
        tmp_path, lambda meta: jax.eval_shape(optimizers[meta["phase"]].init, params))
    assert_same(restored.state, optimizers["all"].init(params))


DTYPES = ["float32", "bfloat16", "float16", "int8", "uint32", "int64", "bool", "complex64"]
leaves = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 100, shape).astype(
        jnp.dtype(dtype)),
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 4), max_size=3).map(tuple),
    st.integers(0, 99),
) | st.integers(-5, 5) | st.floats(allow_nan=False) | st.booleans()
trees = st.recursive(
    leaves,
    lambda inner: st.dictionaries(st.text("ab.c 'é", min_size=1, max_size=3), inner, max_size=3)
    | st.lists(inner, max_size=2).map(tuple),
    max_leaves=6,
)


@given(tree=trees)
@settings(max_examples=20, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip_of_any_tree(tmp_path, tree):
    state = {"tree": tree, "one": 1}
    checkpoint.save(tmp_path, 0, state, {})
    assert_same(restore(tmp_path, state).state, state)


def test_sharding_of_the_template(tmp_path):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = {"w": jnp.ones(4), "key": jax.random.key(0), "free": jnp.zeros(2)}
    checkpoint.save(tmp_path, 0, state, {})
    template = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
                for name, x in state.items()} | {"free": state["free"]}
    restored = restore(tmp_path, template).state
    assert restored["w"].sharding == sharding and restored["key"].sharding == sharding
    assert not restored["free"].committed  # else jit would refuse it beside arrays on a larger mesh


def test_keeps_the_newest_two(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, step, {"w": np.full(3, step)}, {})
    assert names(tmp_path) == ["000003_step3", "000004_step4"]


def test_the_save_made_last_is_the_newest(tmp_path):
    """The same step again (a new phase begins), then a lower one (an older one was restored)."""
    for step, phase in ((8, 0), (10, 0), (10, 1), (9, 2)):
        checkpoint.save(tmp_path, step, {"w": np.full(3, phase)}, {"phase": phase})
        restored = restore(tmp_path, {"w": np.zeros(3, int)})
        assert (restored.step, restored.meta["phase"]) == (step, phase)
        np.testing.assert_array_equal(restored.state["w"], np.full(3, phase))


def test_none_when_there_is_none(tmp_path):
    assert restore(tmp_path / "absent") is None
    (tmp_path / "000001_step1.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "events.out").touch()
    assert restore(tmp_path) is None and checkpoint.latest_meta(tmp_path) is None


def test_leftovers_are_removed(two):
    for remove in (checkpoint.remove_leftovers, lambda d: checkpoint.save(d, 30, {"w": 1}, {})):
        (two / "000003_step30.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
        remove(two)
        assert len(names(two)) == 2 and not list(two.glob("*tmp"))


def test_a_flipped_byte_anywhere_is_detected(two, caplog):
    rng = random.Random(0)
    for path in files_of(two / "000002_step20"):
        intact = path.read_bytes()
        for position in {0, len(intact) - 1, *(rng.randrange(len(intact)) for _ in range(4))}:
            flip(path, position, rng.randrange(1, 256))
            caplog.clear()
            assert checkpoint.latest_meta(two) == {"epoch": 1, "note": "é"}, (path, position)
            (record,) = caplog.records
            assert "step 20 is unreadable" in record.message
            assert "using step 10 instead" in record.message
            path.write_bytes(intact)
    assert checkpoint.latest_meta(two)["epoch"] == 2


def test_wrong_arrays_are_detected_although_the_files_are_as_recorded(two):
    """The checksums taken before Orbax wrote stand on their own: the files' are made to fit."""
    folder = two / "000002_step20"
    record = json.loads((folder / "record.json").read_text())
    digests = record["sha256"]
    a, b = "params/conv1/kernel", "params/head/bias"
    digests[a], digests[b] = digests[b], digests[a]
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "SHA256SUMS").write_text("".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n"
        for p in files_of(folder) if p.name != "SHA256SUMS"))
    assert restore(two).step == 10


@pytest.mark.parametrize("damage", [
    lambda p: p.unlink(),
    lambda p: p.write_bytes(b""),
    lambda p: p.write_bytes(p.read_bytes()[:-1]),
    lambda p: p.write_bytes(p.read_bytes() + b"\0"),
], ids=["missing", "emptied", "truncated", "longer"])
def test_every_file_counts(two, damage):
    for path in files_of(two / "000002_step20"):
        intact = path.read_bytes()
        damage(path)
        assert checkpoint.latest_meta(two)["epoch"] == 1, path
        path.write_bytes(intact)
    assert checkpoint.latest_meta(two)["epoch"] == 2


def test_missing_folder_falls_back(two):
    shutil.rmtree(two / "000002_step20" / "state")
    restored = restore(two)
    assert (restored.step, restored.meta["epoch"]) == (10, 1)
    assert_same(restored.state, make_state(10))


def test_hidden_files_of_desktops_do_no_harm(two):
    (two / "000002_step20" / "state" / ".DS_Store").write_bytes(b"x")
    assert restore(two).step == 20


def test_a_damaged_one_is_not_counted_among_the_two(two):
    """After a fallback the step is saved again; the one restored stays as what to fall back to."""
    flip(two / "000002_step20" / "record.json", 40, 1)
    assert restore(two).step == 10
    assert names(two) == ["000001_step10", "000002_step20.unreadable"]
    checkpoint.save(two, 20, make_state(20), {})
    assert names(two) == ["000001_step10", "000002_step20"]
    assert restore(two).step == 20


def test_none_readable(two):
    for folder in two.iterdir():
        flip(folder / "record.json", 40, 1)
    before = names(two)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read: step 20 .* step 10 .*"
                                        r"record.json.*restore the folder from a copy"):
        restore(two)
    assert names(two) == before


@pytest.mark.parametrize(("change", "says"), [
    (lambda s: s["params"]["head"].update(kernel=jnp.zeros((32, 3))),
     r"params/head/kernel is float32\[32,10\] there, float32\[32,3\] here"),
    (lambda s: s.update(half=jnp.zeros((32, 10), jnp.float16)), "half is bfloat16.*float16"),
    (lambda s: s.update(scalar=np.zeros(1, np.float32)), r"scalar is float32\[\] there.*\[1\]"),
    (lambda s: s.update(extra=1), "extra is missing there, int here"),
    (lambda s: s.pop("order"), r"order is int64\[7\] there, missing here"),
    (lambda s: s.update(key=jax.random.key(0, impl="rbg")), "key is key<fry>.*key<rbg>"),
    (lambda s: s.update(step=1.0), "step is int there, float here"),
    (lambda s: s.update(opt=()), "and [0-9]+ more"),
])
def test_another_state_is_refused(two, caplog, change, says):
    state = make_state(0)
    change(state)
    with pytest.raises(UserError, match=says):
        restore(two, state)
    assert names(two) == ["000001_step10", "000002_step20"] and not caplog.records


def test_64_bits_are_not_cut_to_32(tmp_path):
    checkpoint.save(tmp_path, 0, {"n": np.array([2**40])}, {})
    with pytest.raises(UserError, match="JAX_ENABLE_X64"):
        restore(tmp_path, {"n": jax.ShapeDtypeStruct((1,), np.int64)})


@pytest.mark.parametrize("leaf", [np.zeros((0, 3)), "text", np.array(["a"]), object()])
def test_a_leaf_that_cannot_be_stored(tmp_path, leaf):
    with pytest.raises(TypeError, match="params/odd: a checkpoint cannot hold"):
        checkpoint.save(tmp_path / "run", 0, {"params": {"odd": leaf}}, {})
    assert not (tmp_path / "run").exists()


def test_two_leaves_of_one_path(tmp_path):
    with pytest.raises(ValueError, match="same path"):
        checkpoint.save(tmp_path, 0, {"a": {"b": 1}, "a/b": 2}, {})


@pytest.mark.parametrize("free", [100, 10**6])  # the state fits into that, its folder not
def test_disk_too_small(two, monkeypatch, free):
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - free, free))
    with pytest.raises(UserError, match=r"no space left at .*: free \d+ MB and run the same"):
        checkpoint.save(two, 30, make_state(30), {})
    assert names(two) == ["000001_step10", "000002_step20"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))  # not known
    checkpoint.save(two, 30, make_state(30), {})


@pytest.mark.parametrize(("code", "error"), [
    (errno.ENOSPC, UserError), (errno.EDQUOT, UserError), (errno.EACCES, PermissionError)])
def test_the_last_file_cannot_be_written(two, monkeypatch, code, error):
    def fail(self, text):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(error):
        checkpoint.save(two, 30, make_state(30), {})
    assert names(two) == ["000001_step10", "000002_step20"]
    assert_same(restore(two).state, make_state(20))


FULL = """
import os, resource, sys
import numpy as np
from tl_jax.engine import checkpoint
from tl_jax.errors import UserError
del os.posix_fallocate  # that would tell beforehand
directory, state = sys.argv[1], {"w": np.arange(5)}
checkpoint.save(directory, 1, state, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
rng = np.random.default_rng(0)
for attempt in range(2):
    try:
        checkpoint.save(directory, 2, {f"w{i}": rng.random(100_000) for i in range(4)}, {})
    except UserError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(checkpoint.restore_latest(directory, lambda meta: state).step)
checkpoint.save(directory, 3, state, {})
"""


def test_the_writing_library_runs_out_of_space(tmp_path):
    """For real: a limit on the size of a file, met by TensorStore in a thread of its own."""
    child = run_child(FULL, tmp_path / "run", stderr=subprocess.DEVNULL)
    out = child.communicate(timeout=60)[0].splitlines()
    assert child.returncode == 0
    assert [line.split(":")[0] for line in out] == [f"no space left at {tmp_path}/run"] * 2 + ["1"]
    # What its thread goes on writing, where the machine is slow, the next start removes.
    checkpoint.remove_leftovers(tmp_path / "run")
    assert names(tmp_path / "run") == ["000001_step1", "000002_step3"]


SAVE_FOR_EVER = """
import itertools, sys
import numpy as np
from tl_jax.engine import checkpoint
w = np.random.default_rng(0).random((4, 250_000))
for step in itertools.count():
    checkpoint.save(sys.argv[1], step, {"w": w + step}, {"step": step})
    print(step, flush=True)
"""


def stop_in_mid_save(child, directory, delay):
    while True:
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        if list(directory.glob("*.orbax-checkpoint-tmp")):
            return
        child.send_signal(signal.SIGCONT)
        time.sleep(delay)


@pytest.mark.parametrize("delay", [0.001, 0.011, 0.031, 0.061])  # a save takes about 0.1 s
def test_kill_in_mid_save(tmp_path, delay):
    child = run_child(SAVE_FOR_EVER, tmp_path)
    try:
        while int(child.stdout.readline()) < 2:
            pass
        time.sleep(delay)
        stop_in_mid_save(child, tmp_path, delay)
    finally:
        child.kill()
        reported = [int(line) for line in child.communicate()[0].splitlines()]
    last = max(reported, default=2)
    w = np.random.default_rng(0).random((4, 250_000))
    restored = restore(tmp_path, {"w": w})
    assert restored.step in (last, last + 1) and restored.meta == {"step": restored.step}
    np.testing.assert_array_equal(restored.state["w"], w + restored.step)
    checkpoint.save(tmp_path, 99, {"w": w}, {})
    assert names(tmp_path)[0].endswith(f"_step{restored.step}")
    assert names(tmp_path)[1].endswith("_step99")


def test_killed_while_removing_the_oldest(two):
    (two / "000000_step5" / "state").mkdir(parents=True)  # half of it is gone already
    assert restore(two).step == 20
    checkpoint.save(two, 30, make_state(30), {})
    assert names(two) == ["000002_step20", "000003_step30"]


def test_leaves_no_thread_and_says_nothing(two, caplog, capfd):
    before = set(threading.enumerate())
    with caplog.at_level(logging.WARNING):
        checkpoint.save(two, 30, make_state(30), {})
        restore(two)
    assert not caplog.records and capfd.readouterr() == ("", "")
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread


def test_import_leaves_orbax_alone():
    code = "import sys, tl_jax.engine.checkpoint; print('orbax.checkpoint' in sys.modules)"
    assert run_child(code).communicate()[0] == "False\n"
