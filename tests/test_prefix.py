import dataclasses
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import small

from tl_jax.chain.programs import forward
from tl_jax.chain.variables import merged, select
from tl_jax.data import views
from tl_jax.data.tasks.arrays import from_arrays
from tl_jax.engine import checkpoint, prefix, store
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train import evaluate, room
from tl_jax.train import loop as train
from tl_jax.train.inputs import for_plan

BOTH_PHASES = "head_then_fine_tune"
EVERY = np.arange(len(small.task().ids))
CUT = "stage1_block2"


def problem(**changes):
    tune = small.settings(views="flip", batch_norm="batch", learning_rate=1e-3)
    return small.problem(**{"plan": BOTH_PHASES, "tune": tune} | changes)


def trained(cache: pathlib.Path | None, workdir: pathlib.Path, **changes):
    """Variables and history of a run, by the inputs that it trained on."""
    mine = problem(**changes)
    inputs_for = for_plan(mine, test_views="flip", cache=cache, dtype="float32")
    variables, progress, inputs = train.run(mine, small.variables(), inputs_for, workdir=workdir)
    return mine, variables, progress, inputs


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("cached"))


@pytest.fixture(scope="module")
def uncached(tmp_path_factory):
    return trained(None, tmp_path_factory.mktemp("uncached"))


def features(cache, *, stop=CUT, variables=None, below=None, dtype="float32", **changes):
    """The task's features at `stop`, from pixels."""
    below = below or prefix.pixels(small.task(), small.PREPROCESSING, cache=cache)
    options = {"examples": len(EVERY), "stored_views": (0, 1), "parallel": Parallel()} | changes
    variables = variables or small.variables()
    return prefix.features(
        small.chain(), variables, below, stop, cache=cache, dtype=dtype, **options
    )


def by_hand(example: int, number: int, *, stop=CUT):
    """One example in one view, run through the network on its own."""
    image = views.view(np.asarray(small.task().open(example))[..., None], number)
    x = (np.repeat(image, 3, -1) - np.float32([120, 110, 100])) / np.float32(60)
    return forward(small.chain(), small.variables(), x[None], stop=stop)[0]


def test_decoded_and_kept_pixels_are_the_same(tmp_path):
    kept = prefix.pixels(small.task(), small.PREPROCESSING, cache=tmp_path)
    decoded = prefix.decoded(small.task(), small.PREPROCESSING)
    numbers = EVERY % 8
    got = kept.read(EVERY, numbers)
    np.testing.assert_array_equal(got, decoded.read(EVERY, numbers))
    assert (got.shape, got.dtype) == ((len(EVERY), small.SIZE, small.SIZE, 1), np.uint8)
    turned = np.rot90(np.asarray(small.task().open(4)))
    np.testing.assert_array_equal(got[4, ..., 0], turned)
    assert kept.start is decoded.start is None


def test_features_are_the_layers_output_for_each_example_and_view(tmp_path):
    found = features(tmp_path)
    for example, number in ((0, 0), (7, 1), (119, 0), (119, 1)):
        got = found.read(np.array([example]), np.array([number]))[0]
        np.testing.assert_allclose(got, by_hand(example, number), rtol=1e-4, atol=1e-5)
    assert found.start == CUT
    assert found.nbytes == 2 * len(EVERY) * 8 * 8 * 8 * 4


def test_features_of_features_are_those_of_pixels(tmp_path):
    upper = features(tmp_path, below=features(tmp_path), stop="stage2_block1")
    for example, number in ((3, 0), (118, 1)):
        wanted = by_hand(example, number, stop="stage2_block1")
        got = upper.read(np.array([example]), np.array([number]))[0]
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", prefix.DTYPES)
def test_vectors_that_are_few_enough_are_put_on_the_device(tmp_path, monkeypatch, dtype):
    vectors = features(tmp_path, stop="pool", dtype=dtype)
    monkeypatch.setattr(prefix, "RESIDENT", vectors.nbytes)
    found = prefix.on_device(vectors, Parallel())
    assert (found.resident.shape, found.resident.dtype) == ((2 * len(EVERY), 16), dtype)
    for numbers in (EVERY * 0, EVERY % 2):
        got = np.asarray(found.resident)[found.row(EVERY, numbers)]
        np.testing.assert_array_equal(got, found.read(EVERY, numbers))
    assert prefix.on_device(vectors, Parallel("pmap")).resident is None
    monkeypatch.setattr(prefix, "RESIDENT", vectors.nbytes - 1)
    assert prefix.on_device(vectors, Parallel()).resident is None


def test_what_is_no_vector_stays_where_it_is(tmp_path):
    pixels = prefix.pixels(small.task(), small.PREPROCESSING, cache=tmp_path)
    decoded = prefix.decoded(small.task(), small.PREPROCESSING)
    for inputs in (features(tmp_path), pixels, decoded):  # features with space left in them
        assert prefix.on_device(inputs, Parallel()) is inputs


def test_evaluation_on_the_device_is_evaluation(tmp_path):
    mine = small.problem("head_only")
    inputs = features(tmp_path, stop="pool")
    resident = prefix.on_device(inputs, mine.parallel)
    assert resident.resident is not None
    for n, over in ((1, "none"), (64, "flip"), (70, "flip")):  # 64 are a batch
        options = EVERY[-n:], over
        got = evaluate.predictions(mine, small.variables(), resident, *options)
        wanted = evaluate.predictions(mine, small.variables(), inputs, *options)
        assert got.shape == (n, 3)
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_half_the_disk_for_half_the_digits(tmp_path, dtype, digits):
    found = features(tmp_path, dtype=dtype)
    assert found.nbytes == len(EVERY) * 2 * 8 * 8 * 8 * 2
    got = found.read(EVERY, EVERY * 0).astype(np.float32)
    wanted = features(tmp_path).read(EVERY, EVERY * 0)
    np.testing.assert_allclose(got, wanted, rtol=2.0**-digits, atol=1e-6)


def test_what_does_not_fit_the_type_is_refused(tmp_path):
    stem = small.variables()["params"]["stem"]
    large = {**stem, "norm": {k: v * 1e6 for k, v in stem["norm"].items()}}
    variables = merged(small.variables(), {"params": {"stem": large}, "batch_stats": {}})
    features(tmp_path, stop="stem", variables=variables)
    with pytest.raises(UserError, match="'stem' does not fit float16: .*cache_dtype=float32"):
        features(tmp_path, stop="stem", variables=variables, dtype="float16")


def test_a_cached_run_is_the_run(cached, uncached):
    (_, variables, progress, inputs), (_, plain, wanted, pixels) = cached, uncached
    assert (inputs.start, pixels.start) == (CUT, None)
    for row, other in zip(progress.history, wanted.history, strict=True):
        assert row["phase"] == other["phase"]
        for loss in ("train_loss", "val_loss"):
            assert row[loss] == pytest.approx(other[loss], rel=1e-4)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, variables, plain)
    assert [i["prefix"] for i in progress.inputs] == ["pool", CUT]
    assert [i["prefix"] for i in wanted.inputs] == [None, None]
    assert all(i["cached_bytes"] == 0 for i in wanted.inputs)


def test_evaluation_averages_the_probabilities_of_the_views(cached, uncached):
    for mine, variables, _, inputs in (cached, uncached):
        test = mine.task.splits["test"]
        got = evaluate.predictions(mine, variables, inputs, test, "flip")
        images = np.stack([np.asarray(mine.task.open(e)) for e in test])[..., None]
        wanted = 0
        for x in (images, images[:, :, ::-1]):
            logits = forward(small.chain(), variables, small.PREPROCESSING.normalise(x))
            wanted = wanted + jax.nn.softmax(logits) / 2
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_sets_of_views_that_differ_are_stored_together(tmp_path):
    """Trained on four flips, judged on ten crops: twelve views are stored, and read as such."""
    mine = problem(tune=small.settings(views="flips", batch_norm="batch", learning_rate=1e-3))
    test, by_hand, found = mine.task.splits["test"], 0, []
    for cache in (tmp_path / "cache", None):
        inputs_for = for_plan(mine, test_views="crops", cache=cache, dtype="float32")
        folder = tmp_path / str(cache is None)
        variables, _, inputs = train.run(mine, small.variables(), inputs_for, workdir=folder)
        found.append(evaluate.predictions(mine, variables, inputs, test, "crops"))
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)
    assert (f"output of {CUT}", 12 * len(EVERY) * 8 * 8 * 8 * 4) in written(tmp_path / "cache")
    images = np.stack([np.asarray(mine.task.open(e)) for e in test]).astype(np.float32)
    crops = [images] + [
        jax.image.resize(images[:, top : top + 7, left : left + 7], images.shape, "linear")
        for top in (0, 1)
        for left in (0, 1)
    ]
    for crop in crops:
        for x in (crop, crop[..., ::-1]):
            pixels = np.rint(x).astype(np.uint8)[..., None]
            normal = small.PREPROCESSING.normalise(pixels)
            by_hand += jax.nn.softmax(forward(small.chain(), variables, normal)) / 10
    np.testing.assert_allclose(found[1], by_hand, rtol=1e-3, atol=1e-4)


def test_phases_share_what_none_of_them_trains(tmp_path, caplog):
    caplog.set_level("INFO")
    _, _, progress, _ = trained(tmp_path / "cache", tmp_path / "a")
    said = [line for line in caplog.messages if "on disk" in line]
    kept = ["decoded images", f"output of {CUT}", "output of pool"]
    assert [line.split(":")[0] for line in said] == [kept[0], *kept]  # all together, then each
    assert all(f"{what}: " in said[0] for what in kept)
    caplog.clear()
    again = trained(tmp_path / "cache", tmp_path / "b")[2]
    assert not [line for line in caplog.messages if "on disk" in line]
    assert again.inputs == progress.inputs


@pytest.fixture
def asked_for(monkeypatch):
    """What runs ask room for before they begin."""
    found = []
    monkeypatch.setattr(room, "require_room", found.append)
    return found


def written(cache):
    """Bytes by what a store holds."""
    return sorted((one.what, (one.folder / "data").stat().st_size) for one in store.kept(cache))


def test_what_a_run_asks_room_for_is_what_it_writes(tmp_path, asked_for):
    """Of several views and a type of half the size; of what is there nothing is asked again."""
    cache, options = tmp_path / "cache", {"test_views": "flip", "dtype": "float16"}
    for name in ("a", "b", "c"):
        mine = problem()
        inputs_for = for_plan(mine, cache=cache, workdir=tmp_path / name, **options)
        train.run(mine, small.variables(), inputs_for, workdir=tmp_path / name)
        if name == "b":
            lost = store.kept(cache)[0]
            store.remove(lost)
    first, second, third = asked_for
    assert sorted((need.what, need.nbytes) for need in first) == written(cache)
    assert {need.nbytes for need in second} == {0}
    assert [need.what for need in third if need.nbytes] == [lost.what]


def test_outputs_by_weights_that_are_still_to_be_trained_are_asked_for(tmp_path, asked_for):
    """In a plan that trains a layer, then freezes it: those of the weights before do not serve."""
    mine = freezing_plan()
    for name in ("a", "b"):
        inputs_for = for_plan(mine, test_views="none", cache=tmp_path / "cache", dtype="float32")
        train.run(mine, small.variables(), inputs_for, workdir=tmp_path / name)
    for needs, there in zip(asked_for, ([], ["decoded images", f"output of {CUT}"]), strict=True):
        assert [need.what for need in needs if not need.nbytes] == there
        assert needs[-1].what == "output of pool" and needs[-1].nbytes == len(EVERY) * 16 * 4


def test_a_run_without_room_for_all_its_stores_computes_nothing(tmp_path, monkeypatch):
    """Each of them alone would fit. Checkpoints count once they are large."""
    mine, cache = problem(), tmp_path / "cache"
    pixels, both_views, pool = 8 * 8, 2 * 8 * 8 * 8 * 4, 16 * 4  # bytes an image
    free = len(EVERY) * (pixels + both_views + pool) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    options = {"test_views": "flip", "cache": cache, "dtype": "float32", "workdir": tmp_path}
    inputs_for = for_plan(mine, **options)
    with pytest.raises(UserError, match="needed .decoded images: .*, output of .* free"):
        inputs_for(mine.plan.phases[0], small.variables())
    assert not cache.exists()
    free += 1
    inputs_for = for_plan(mine, **options)
    monkeypatch.setattr(room, "LARGE", 1)
    with pytest.raises(UserError, match="checkpoints: "):
        inputs_for(mine.plan.phases[0], small.variables())
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    inputs_for(mine.plan.phases[0], small.variables())


def test_checkpoints_take_what_is_said(tmp_path, monkeypatch, asked_for):
    """The largest, once more than are kept; what is there when the run goes on is not asked for."""
    monkeypatch.setattr(room, "LARGE", 1)
    sizes, save = [], checkpoint.save

    def noted(folder, step, tree, meta):
        sizes.append(sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree)))
        save(folder, step, tree, meta)

    monkeypatch.setattr(checkpoint, "save", noted)
    options = {"test_views": "none", "cache": None, "dtype": "float32", "workdir": tmp_path}
    train.run(mine := problem(), small.variables(), for_plan(mine, **options), workdir=tmp_path)
    ((need,),) = asked_for
    assert (need.what, need.nbytes) == ("checkpoints", 3 * max(sizes))
    for_plan(mine, **options)(mine.plan.phases[1], small.variables())
    folder = tmp_path / "checkpoints"
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert asked_for[1] == [need._replace(nbytes=max(0, 3 * max(sizes) - there))]


def test_runs_of_a_study_share_what_they_freeze(tmp_path, caplog):
    caplog.set_level("INFO")
    plan = {"plan": "fine_tune_top", "tune": small.settings(views="flip")}
    first = trained(tmp_path / "cache", tmp_path / "a", **plan)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("data")}
    caplog.clear()
    slower = small.settings(views="flip", learning_rate=1e-3)
    second = trained(tmp_path / "cache", tmp_path / "b", **plan | {"seed": 1, "tune": slower})
    assert not [line for line in caplog.messages if "on disk" in line]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("data")} == files
    assert first[2].inputs == second[2].inputs
    assert first[2].history[-1]["train_loss"] != second[2].history[-1]["train_loss"]


def freezing_plan():
    """A problem whose first phase trains all above `CUT`, the second the head alone."""
    mine = small.problem("fine_tune_top")
    (tune,) = mine.plan.phases
    head = dataclasses.replace(tune, name="head", multipliers=dict.fromkeys(small.NAMES, 0.0))
    head.multipliers["head"] = 1.0
    return dataclasses.replace(mine, plan=Plan("freezing", (tune, head)))


def test_a_phase_that_freezes_more_goes_on_from_the_cache_of_the_one_before(tmp_path, monkeypatch):
    begun, original = [], prefix.features

    def noted(chain, variables, below, stop, **options):
        begun.append((below.start, stop))
        return original(chain, variables, below, stop, **options)

    monkeypatch.setattr(prefix, "features", noted)
    mine = freezing_plan()
    inputs_for = for_plan(mine, test_views="none", cache=tmp_path, dtype="float32")
    variables, _, inputs = train.run(mine, small.variables(), inputs_for, workdir=tmp_path)
    assert begun == [(None, CUT), (None, CUT), (CUT, "pool")]
    # By the weights that the first phase has trained meanwhile.
    pixels = prefix.decoded(mine.task, mine.preprocessing).read(EVERY, EVERY * 0)
    x = small.PREPROCESSING.normalise(pixels)
    wanted = forward(small.chain(), variables, x, stop="pool")
    np.testing.assert_allclose(inputs.read(EVERY, EVERY * 0), wanted, rtol=1e-4, atol=1e-5)
    before = forward(small.chain(), small.variables(), x, stop="pool")
    assert not np.allclose(wanted, before, rtol=1e-2)


OTHER_PROCESS = """
import pathlib, sys, test_prefix
folder = pathlib.Path(sys.argv[1])
(folder / "ready").touch()
found = test_prefix.features(folder / "cache")
rows = found.read(test_prefix.EVERY, test_prefix.EVERY % 2)
(folder / "rows").write_bytes(rows.tobytes())
"""


def test_two_processes_that_want_the_same_features_compute_them_once(tmp_path):
    root = pathlib.Path(__file__).parent.parent
    path = os.pathsep.join([str(root), str(root / "tests")])
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as other:
        while not (tmp_path / "ready").exists():
            assert other.poll() is None, "it ended before"
            time.sleep(0.001)
        own = features(tmp_path / "cache").read(EVERY, EVERY % 2)
        assert other.wait(120) == 0
    assert (tmp_path / "rows").read_bytes() == own.tobytes()
    for log in (tmp_path / "cache").glob("*/rows.jsonl"):
        blocks = [json.loads(line)["first"] for line in filter(None, log.read_text().split("\n"))]
        assert len(blocks) == len(set(blocks)) > 1, "computed twice"


def test_a_plan_that_trains_all_reads_pixels(tmp_path):
    mine = small.problem("full")
    inputs_for = for_plan(mine, test_views="none", cache=tmp_path, dtype="float32")
    inputs = inputs_for(mine.plan.phases[0], small.variables())
    assert inputs.start is None
    assert inputs.key == prefix.pixels(mine.task, mine.preprocessing, cache=tmp_path).key


@pytest.fixture
def nothing_computed(monkeypatch):
    """Keys are there before any array is."""
    monkeypatch.setattr(
        store, "build", lambda kept, compute, **_: np.zeros((1, *kept.shape[1:]), kept.dtype)
    )


def changed(variables, collection, layer):
    """The variables with one number of one layer a little larger."""
    tree = select(variables, [layer])[collection][layer]
    leaves, structure = jax.tree.flatten(tree)
    leaves[0] = np.nextafter(leaves[0], np.float32(np.inf))
    return {**variables, collection: {**variables[collection], layer: structure.unflatten(leaves)}}


def other_task():
    images = np.stack([np.asarray(small.task().open(e)) for e in EVERY])
    images[11, 3, 3] ^= 1
    return from_arrays("stripes", images, small.task().labels, seed=0)


def test_the_key_is_of_all_that_the_features_depend_on(tmp_path, nothing_computed):
    def below(task=None, **preprocessing):
        mine = dataclasses.replace(small.PREPROCESSING, **preprocessing)
        return prefix.pixels(task or small.task(), mine, cache=tmp_path)

    own = small.variables()
    keys = [
        features(tmp_path).key,
        features(tmp_path, variables=small.variables(1)).key,
        features(tmp_path, variables=changed(own, "params", "stem")).key,
        features(tmp_path, variables=changed(own, "batch_stats", CUT)).key,
        features(tmp_path, stop="stage1_block1").key,
        features(tmp_path, stored_views=(0, 1, 2, 3)).key,
        features(tmp_path, stored_views=(0, 8)).key,
        features(tmp_path, dtype="float16").key,
        features(tmp_path, below=below(mean=(120.0, 110.0, 101.0))).key,
        features(tmp_path, below=below(crop=0.9)).key,
        features(tmp_path, below=below(interpolation="bicubic")).key,
        features(tmp_path, below=below(order="BGR")).key,
        features(tmp_path, below=below(other_task())).key,
        below().key,
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_is_of_nothing_else(tmp_path, nothing_computed):
    own = small.variables()
    above = changed(own, "params", "stage2_block1")
    turned = small.task().with_truth(targets=small.task().targets[::-1])
    renamed = dataclasses.replace(turned, name="other")
    below = prefix.pixels(renamed, small.PREPROCESSING, cache=tmp_path)
    on_device = jax.tree.map(jax.numpy.asarray, own)
    first = features(tmp_path).key
    assert features(tmp_path, variables=above).key == first
    assert features(tmp_path, variables=on_device).key == first
    assert features(tmp_path, below=below).key == first


@pytest.mark.parametrize(("epochs", "stored"), [(1, False), (9, True)])
def test_a_phase_stores_what_is_its_own_alone_where_it_reads_it_more_often(
    tmp_path, epochs, stored
):
    """`stage2_block1` learns alone on an output that no other phase or run will read."""
    phases = (
        Phase("lower", dict.fromkeys(small.NAMES, 0.0) | {"stem": 1.0}, small.settings(epochs=1)),
        Phase(
            "upper",
            dict.fromkeys(small.NAMES, 0.0) | {"stage2_block1": 1.0},
            small.settings(epochs=epochs),
        ),
    )
    mine = dataclasses.replace(small.problem("full"), plan=Plan("own", phases))
    read = epochs * sum(len(mine.task.splits[split]) for split in ("train", "val"))
    assert (read > len(mine.task.ids)) is stored
    inputs_for = for_plan(mine, test_views="none", cache=tmp_path, dtype="float32")
    first, second = (inputs_for(phase, small.variables()).start for phase in phases)
    assert first is None and second == ("stage1_block2" if stored else None)
