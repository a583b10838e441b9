import dataclasses
import functools
import os
import subprocess
import sys

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import ROOT

from tl_jax.data import augment
from tl_jax.data.augment import (
    AUGMENTATIONS,
    Crop,
    CutMix,
    Erase,
    Flip,
    MixUp,
    Sequence,
    make,
    randaugment,
    rectangles,
)
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError

KEY = jax.random.key(0)
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compile
SINGLE = [name for name in AUGMENTATIONS if name not in ("mixup", "cutmix")]
EACH = [*AUGMENTATIONS, "crop+flip+jitter"]


def photos(batch=6, height=24, width=20, channels=3, dtype=np.uint8, seed=0):
    """Blots of different brightness: smooth, so that interpolations can be compared."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (batch, 5, 4, channels), np.uint8)
    grown = [
        np.stack([np.asarray(PIL.Image.fromarray(c).resize((width, height), 3)) for c in image], 2)
        for image in np.moveaxis(rough, -1, 1)
    ]
    return np.stack(grown).astype(dtype)


class Known(dict):
    """Another mapping, registered as a tree, as inputs may be."""


jax.tree_util.register_pytree_node(
    Known,
    lambda known: (list(known.values()), tuple(known)),
    lambda names, values: Known(zip(names, values, strict=True)),
)


def batch_of(images, **others):
    rng = np.random.default_rng(1)
    targets = rng.dirichlet(np.ones(4), len(images)).astype(np.float32)
    weights = rng.uniform(0.5, 2, len(images)).astype(np.float32)
    inputs = Known(image=images, age=np.arange(len(images)))
    return {"inputs": inputs, "targets": targets, "weights": weights, **others}


@functools.cache
def compiled(apply):
    return jax.jit(apply, compiler_options=QUICK)


def augmented(text_or_value, images, key=KEY):
    """The images after it, as numpy."""
    apply = make(text_or_value) if isinstance(text_or_value, str) else text_or_value
    return np.asarray(compiled(apply)(key, batch_of(images))["inputs"]["image"])


# What all have in common


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        *((text, 3) for text in EACH),
        ("crop+flip+jitter", 1),
        ("jitter(saturation=0, hue=0)", 4),
        ("randaugment", 1),
    ],
)
def test_pixels_keep_shape_and_range_and_the_rest_of_the_batch_stays(text, channels):
    batch = batch_of(photos(channels=channels), ids=np.arange(6))
    out = compiled(make(text))(KEY, batch)
    image = out["inputs"]["image"]
    assert image.shape == (6, 24, 20, channels) and image.dtype == jnp.float32
    assert image.min() >= 0 and image.max() <= 255 and np.isfinite(image).all()
    assert type(out["inputs"]) is Known and set(out) == set(batch)
    np.testing.assert_array_equal(out["inputs"]["age"], batch["inputs"]["age"])
    np.testing.assert_array_equal(out["ids"], batch["ids"])
    if not make(text).coupled:
        np.testing.assert_array_equal(out["targets"], batch["targets"])
        np.testing.assert_array_equal(out["weights"], batch["weights"])


@pytest.mark.parametrize("text", EACH)
def test_something_changes_and_each_key_gives_its_own_draw(text):
    images = photos()
    first, again, other = (augmented(text, images, jax.random.key(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - images).max() > 1 and np.abs(first - other).max() > 1


@pytest.mark.parametrize("text", ["crop+flip+jitter", "mixup", "randaugment(1)"])
def test_floats_give_what_bytes_give(text):
    images = photos()
    bytes_, floats = augmented(text, images), augmented(text, images.astype(np.float32))
    np.testing.assert_allclose(bytes_, floats, atol=1e-2)


@pytest.mark.parametrize("text", ["crop", "flip", "shift", "jitter", "erase", "mixup", "cutmix"])
def test_jit_gives_what_no_jit_gives(text):
    batch, apply = batch_of(photos()), make(text)
    close = functools.partial(np.testing.assert_allclose, atol=2e-2, rtol=1e-4)
    jax.tree.map(close, apply(KEY, batch), compiled(apply)(KEY, batch))


@pytest.mark.parametrize("text", SINGLE)
def test_a_row_draws_by_its_number_whatever_stands_in_others(text):
    images = photos()
    whole = augmented(text, images)
    swapped = np.concatenate([photos(seed=5)[:3], images[3:]])
    np.testing.assert_allclose(augmented(text, swapped)[3:], whole[3:], atol=1e-2)
    if text == "crop":
        np.testing.assert_allclose(augmented(text, images[:4]), whole[:4], atol=1e-2)


def test_rows_draw_differently():
    same = np.repeat(photos(1), 6, axis=0)
    for text in ("crop", "shift", "jitter", "randaugment"):
        assert len(np.unique(augmented(text, same), axis=0)) >= 5, text  # two may be alike
    assert len(np.unique(augmented("flip", np.repeat(same, 5, axis=0)), axis=0)) == 2


def test_equal_values_are_compiled_once():
    compilations = []

    @functools.partial(jax.jit, static_argnums=0)
    def step(apply, key, batch):
        compilations.append(apply)
        return apply(key, batch)

    for text in ("crop+erase(1, most=0.2)", "crop()+erase(most=0.2, probability=1.0)"):
        step(make(text), KEY, batch_of(photos()))
    assert len(compilations) == 1
    step(make("crop+erase(1, most=0.3)"), KEY, batch_of(photos()))
    assert len(compilations) == 2


def test_a_sequence_is_its_parts_and_a_further_one_leaves_earlier_draws_alone():
    batch = batch_of(photos())
    crop, flip = make("crop"), make("flip")
    by_hand = flip(jax.random.fold_in(KEY, 1), crop(jax.random.fold_in(KEY, 0), batch))
    both = make("crop+flip")(KEY, batch)
    np.testing.assert_array_equal(both["inputs"]["image"], by_hand["inputs"]["image"])


SHARED = "crop+erase+randaugment(1)+mixup"


def main():
    """That a batch shared by four devices is augmented as on one, by a program of its own."""
    batch, apply = batch_of(photos(8)), jax.jit(make(SHARED))
    shared = Parallel().share(batch)
    assert len(shared["inputs"]["image"].devices()) == 4
    close = functools.partial(np.testing.assert_allclose, atol=0.02, rtol=1e-4)
    jax.tree.map(close, apply(KEY, shared), apply(KEY, batch))


@pytest.mark.slow
def test_four_devices_draw_what_one_draws():
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    flags = "--xla_force_host_platform_device_count=4"
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # to compile; the numbers stay the same
    environment = os.environ | quick | {"PYTHONPATH": path, "XLA_FLAGS": flags}
    command = [sys.executable, "-W", "error", "-c", "import test_augment; test_augment.main()"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_coupled_says_whether_examples_are_made_of_each_other():
    assert make("crop+mixup").coupled and make("cutmix").coupled
    assert not make("crop+flip").coupled and not make("erase").coupled


# Of one image


def test_a_crop_of_the_full_area_is_the_image():
    images = photos()
    np.testing.assert_allclose(augmented("crop(1)", images), images, atol=0.02)


def test_a_crop_is_pillows_resized_box():
    images = photos()
    places = (np.array([3.25]), np.array([1.5]), np.array([15.75]), np.array([14.0]))
    ours = jax.vmap(rectangles.stretched)(images[:1].astype(np.float32), *places)[0]
    box = (1.5, 3.25, 1.5 + 14.0, 3.25 + 15.75)  # left, top, right, bottom
    theirs = PIL.Image.fromarray(images[0]).resize((20, 24), PIL.Image.Resampling.BILINEAR, box)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=1.01)  # it rounds twice


@pytest.mark.parametrize(("size", "least", "most"), [((24, 20), 0.35, 1.0), ((10, 40), 0.9, 1.0)])
def test_rectangles_lie_inside_and_have_the_area_and_the_shape_that_is_said(size, least, most):
    keys = jax.random.split(KEY, 2000)
    top, left, tall, wide = rectangles.rectangles(keys, size, least, most, 0.75)
    near = 1e-4
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + tall <= size[0] + near).all() and (left + wide <= size[1] + near).all()
    share = np.asarray(tall * wide) / (size[0] * size[1])
    assert share.min() >= least - near and share.max() <= most + near
    assert abs(share.mean() - (least + most) / 2) < 0.02
    if size == (24, 20):  # a band ten by forty has no crop that is nearly square
        assert (wide / tall >= 0.75 - near).all() and (wide / tall <= 4 / 3 + near).all()
        assert (top > 1).any() and (left > 1).any()


def test_flips_are_numpys():
    images = photos()
    np.testing.assert_array_equal(augmented("flip(1)", images), images[:, :, ::-1])
    np.testing.assert_array_equal(augmented("flip(0, 1)", images), images[:, ::-1])
    np.testing.assert_array_equal(augmented("flip(0)", images), images)
    many = photos(400, 6, 6)
    half = augmented("flip", many)
    mirrored = (half == many[:, :, ::-1]).all((1, 2, 3))
    plain = (half == many).all((1, 2, 3))
    assert (mirrored | plain).all() and 140 < mirrored.sum() < 260


def test_a_shift_moves_by_whole_pixels_and_mirrors_the_edge():
    images = photos(30)
    wide = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    found = set()
    for moved, image in zip(augmented("shift(3)", images), wide, strict=True):
        places = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if np.array_equal(moved, image[y : y + 24, x : x + 20])
        ]
        assert len(places) == 1
        found |= set(places)
    assert len(found) > 15
    np.testing.assert_array_equal(augmented("shift(0)", images), images)


def test_jitter_by_one_thing_is_what_that_thing_is():
    images = photos(40).astype(np.float32)
    mean = images.mean((1, 2), keepdims=True)
    brighter = augmented("jitter(0.5, 0, 0, 0)", images)
    inside = (brighter > 1) & (brighter < 254) & (images > 20)
    factors = np.where(inside, brighter / np.maximum(images, 1), np.nan)
    per_image = np.nanmedian(factors, axis=(1, 2, 3))
    np.testing.assert_allclose(
        np.where(inside, per_image[:, None, None, None] * images, 0),
        np.where(inside, brighter, 0),
        atol=0.05,
    )
    assert per_image.min() < 0.7 and per_image.max() > 1.3
    assert per_image.min() >= 0.5 and per_image.max() <= 1.5
    duller = augmented("jitter(0, 0.5, 0, 0)", images)
    assert (np.abs(duller - mean) <= 1.5 * np.abs(images - mean) + 0.01).all()
    np.testing.assert_allclose(augmented("jitter(0, 0, 0, 0)", images), images, atol=1e-3)
    # The value of HSV, the greatest channel, depends on neither saturation nor hue.
    coloured = augmented("jitter(0, 0, 0.5, 0.5)", images)
    np.testing.assert_allclose(coloured.max(-1), images.max(-1), atol=0.01)
    assert np.abs(coloured - images).max() > 20


def test_jitter_leaves_the_colours_of_grey_images_alone():
    grey = photos(channels=1)
    np.testing.assert_allclose(augmented("jitter(0, 0, 1, 0.5)", grey), grey, atol=1e-3)


def test_erasing_takes_one_rectangle_of_the_area_that_is_said_and_leaves_the_rest():
    images = np.full((200, 32, 40, 1), 300.0)  # clipped to 255, which noise seldom is
    out = augmented(Erase(1.0, 0.05, 0.3, 0.5), images)[..., 0]
    holes, shapes = out != 255, []
    for hole in holes:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.9
        shapes.append((tall, wide))
    shares = np.prod(shapes, 1) / (32 * 40)
    assert 0.04 < shares.min() and shares.max() < 0.33  # whole pixels
    assert abs(shares.mean() - 0.175) < 0.02
    inside = out[holes]
    assert abs(inside.mean() - 127) < 2 and abs(inside.std() - 73.6) < 2  # uniform in 0..254
    assert np.unique(inside).size > 250
    assert 60 < (augmented("erase(0.5)", images) != 255).any((1, 2, 3)).sum() < 140
    assert (augmented("erase(0)", images) == 255).all()


def test_noise_has_no_pattern_that_correlations_show():
    words = jax.random.bits(KEY, (64,), jnp.uint32)
    values = np.asarray(rectangles.noise(words, jnp.zeros((64, 16, 16, 3)))) / 255 - 0.5
    for axis in (0, 1, 2, 3):
        moved = np.roll(values, 1, axis)
        assert abs((values * moved).mean() / (values**2).mean()) < 0.02
    counts = np.bincount(((values + 0.5) * 255).round().astype(int).ravel(), minlength=256)
    assert (((counts - counts.mean()) ** 2) / counts.mean()).sum() < 350  # chi squared, 255 degrees


# RandAugment's operations, beside Pillow's


def operated(images, name, strength):
    which = np.full(len(images), randaugment.NUMBER[name])
    strengths = np.full(len(images), strength, np.float32)
    return np.asarray(OPERATE(images.astype(np.float32), which, strengths))


OPERATE = jax.jit(randaugment.operate)


def posterized(image, strength):
    return PIL.ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def solarized(image, strength):
    return PIL.ImageOps.solarize(image, 255 * (1 - abs(strength)))


def enhanced(kind):
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


PILLOWS = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: PIL.ImageOps.autocontrast(image),
    "equalize": lambda image, _: PIL.ImageOps.equalize(image),
    "solarize": solarized,
    "posterize": posterized,
    "color": enhanced(PIL.ImageEnhance.Color),
    "contrast": enhanced(PIL.ImageEnhance.Contrast),
    "brightness": enhanced(PIL.ImageEnhance.Brightness),
    "sharpness": enhanced(PIL.ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [-0.7, 0.5])
@pytest.mark.parametrize("name", PILLOWS)
def test_tones_are_pillows(name, strength, channels):
    images = photos(4, 40, 36, channels) // 2 + 30  # so that autocontrast has something to do
    ours = operated(images, name, strength)
    for image, out in zip(images, ours, strict=True):
        theirs = PILLOWS[name](PIL.Image.fromarray(image.squeeze()), strength)
        exact = name in ("identity", "equalize", "posterize", "solarize")
        error = np.abs(out.squeeze() - np.asarray(theirs, np.float32)).max()
        assert error <= (0 if exact else 2.0)  # Pillow's grey, smoothed and blended are rounded


def test_one_colour_is_left_alone_by_equalize_and_autocontrast():
    images = np.full((2, 8, 8, 3), 77, np.uint8)
    for name in ("equalize", "autocontrast"):
        np.testing.assert_array_equal(operated(images, name, 0.5), images)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_warps_are_those_of_dm_pix(name):
    images, strength = photos(1), 0.6
    matrix = {
        "rotate": None,
        "shear_x": [[1, 0, 0], [0.3 * strength, 1, 0], [0, 0, 1]],
        "shear_y": [[1, 0.3 * strength, 0], [0, 1, 0], [0, 0, 1]],
    }.get(name, np.eye(3))
    for image, out in zip(images, operated(images, name, strength), strict=True):
        image = jnp.asarray(image, jnp.float32)
        if name == "rotate":
            theirs = pix.rotate(image, np.deg2rad(18), mode="constant", cval=128)
        else:
            middle = (np.array(image.shape) - 1) / 2
            offset = middle - np.asarray(matrix) @ middle
            along = 150 / 331 * strength * np.array(image.shape[:2])
            offset += {"translate_x": (0, along[1], 0), "translate_y": (along[0], 0, 0)}.get(
                name, 0
            )
            theirs = pix.affine_transform(
                image, jnp.asarray(matrix), offset=offset, mode="constant", cval=128.0
            )
        np.testing.assert_allclose(out, theirs, atol=0.1)


def test_no_strength_leaves_warps_and_blends_without_effect():
    images = photos(2)
    for name in ("rotate", "shear_x", "translate_y", "color", "sharpness", "posterize"):
        np.testing.assert_allclose(operated(images, name, 0.0), images, atol=0.01)


def test_every_operation_stands_in_one_stage():
    staged = [name for names in randaugment.STAGES for name in names]
    assert sorted([*staged, "identity"]) == sorted(randaugment.OPERATIONS)


def test_images_of_a_batch_have_operations_of_their_own():
    images, count = photos(14), np.arange(14)
    together = np.asarray(OPERATE(images.astype(np.float32), count, np.full(14, 0.5, np.float32)))
    for name, image, out in zip(randaugment.OPERATIONS, images, together, strict=True):
        np.testing.assert_allclose(out, operated(image[None], name, 0.5)[0], atol=0.01)


# Mixtures


def cross_entropy(logits, targets):
    return -(targets * jax.nn.log_softmax(logits)).sum(-1)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31 - 1),
    weights=st.lists(st.sampled_from([0.0, 0.0, 1.0, 1 / 3, 2.5, 1e-6]), min_size=6, max_size=6),
    kind=st.sampled_from([MixUp(), MixUp(0.01), CutMix()]),
)
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(seed, weights, kind):
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    # Image i is of the constant pixel 40 i: its mean tells the share of either.
    images = np.broadcast_to(40.0 * np.arange(6)[:, None, None, None], (6, 8, 8, 1))
    targets = rng.dirichlet(np.ones(3), 6).astype(np.float32)
    weights = np.asarray(weights, np.float32)
    batch = {"inputs": {"image": images.astype(np.float32)}}
    out = compiled(kind)(key, batch | {"targets": targets, "weights": weights})
    partners = np.asarray(jax.random.permutation(jax.random.split(key, 3)[1], 6))
    mean = np.asarray(out["inputs"]["image"]).mean((1, 2, 3)) / 40
    rows = np.arange(6)
    moved = partners != rows
    if not moved.any():
        return
    shares = (mean - partners)[moved] / (rows - partners)[moved]
    share = shares.mean()
    np.testing.assert_allclose(shares, share, atol=1e-5)  # one for all, and the partners are these
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    own = share * weights * cross_entropy(logits, targets)
    other = (1 - share) * weights[partners] * cross_entropy(logits, targets[partners])
    mixed = np.asarray(out["weights"] * cross_entropy(logits, out["targets"]))
    np.testing.assert_allclose(mixed, own + other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(out["weights"].sum(), weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(out["targets"].sum(1), 1, atol=1e-5)
    assert np.isfinite(out["targets"]).all() and np.isfinite(out["weights"]).all()


def test_the_share_of_labels_in_cutmix_is_that_of_its_pixels():
    rows = np.arange(6)
    images = np.broadcast_to(rows[:, None, None, None], (6, 11, 13, 1)).astype(np.float32)
    targets, weights = np.eye(6, dtype=np.float32), np.ones(6, np.float32)
    sizes = set()
    for seed in range(40):
        batch = {"inputs": {"image": images}, "targets": targets, "weights": weights}
        out = compiled(CutMix())(jax.random.key(seed), batch)
        pixels = np.asarray(out["inputs"]["image"])[..., 0]
        counted = np.stack([(pixels == row).mean((1, 2)) for row in rows], axis=1)
        np.testing.assert_allclose(out["targets"], counted, atol=1e-6)
        np.testing.assert_array_equal(out["weights"], 1)
        sizes.add(round(float(counted[0, 0]), 4))
    assert len(sizes) > 20


def test_the_share_of_mixup_is_of_the_beta_distribution():
    images = np.array([0.0, 200.0], np.float32).reshape(2, 1, 1, 1)
    batch = {"inputs": {"image": images}, "targets": np.eye(2), "weights": np.ones(2)}
    keys = jax.random.split(KEY, 4000)
    targets = np.asarray(jax.jit(jax.vmap(lambda key: MixUp(0.4)(key, batch)))(keys)["targets"])
    shares = targets[targets[:, 0, 0] < 1][:, 0, 0]  # where the partner is the other
    assert abs(len(shares) / 4000 - 0.5) < 0.05
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01


@pytest.mark.parametrize("text", ["mixup", "crop+cutmix"])
def test_mixtures_without_targets_of_two_axes_are_refused(text):
    images = photos()
    for batch in ({"inputs": {"image": images}}, batch_of(images) | {"targets": np.arange(6)}):
        with pytest.raises(UserError, match="needs targets .* and weights"):
            make(text)(KEY, batch)


# By name


def test_settings_are_read():
    assert make("") is None and make("  ") is None
    assert make("flip") == Flip() and make(" flip( ) ") == Flip()
    assert make("crop + flip(0.25, vertical=0.5)") == Sequence((Crop(), Flip(0.25, 0.5)))
    assert make("randaugment(2,9)+erase(0.25)+mixup(0.2)").parts[0].magnitude == 9.0
    assert hash(make("crop(1)")) == hash(make("crop(least=1.0)"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crob", "unknown augmentation 'crob'; did you mean 'crop'"),
        ("crop+zoom", "unknown augmentation 'zoom'; known: crop, cutmix"),
        ("mixup(alfa=1)", "unknown option of augmentation 'mixup' 'alfa'; did you mean 'alpha'"),
        ("flip(1, 2, 3)", r"takes 2 options \(probability, vertical\); got 3"),
        ("flip(0.5, probability=1)", "'flip': probability is given twice"),
        ("flip(vertical=1, vertical=0)", "'flip': vertical is given twice"),
        ("flip(1.5)", "flip: probability must be a number from 0 to 1, not 1.5"),
        ("flip(-1)", "must be a number from 0 to 1, not -1"),
        ("flip(True)", "flip': probability= takes a number; got True"),
        ("flip('a')", "flip': probability= takes a number; got 'a'"),
        ("shift(1e999)", "pixels= takes a whole number; got inf"),
        ("randaugment(1.5)", "operations= takes a whole number; got 1.5"),
        ("crop(0.5, 0.2)", "crop: least 0.5 must not be above most 0.2"),
        ("mixup(0)", "alpha must be a number from 0.01 to 100, not 0"),
    ],
)
def test_wrong_settings_are_one_line(text, said):
    with pytest.raises(UserError, match=said) as caught:
        make(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["crop-flip", "crop+", "crop flip", "0.5", "crop(x)", "crop(**{})", "crop(*[1])", "a.b(1)"]
    + ["crop(1/2)", "(lambda: crop)()", "crop(__import__('os'))", "\0", "crop\n+"]
    + ["crop+" * 3000 + "crop", "crop(" * 300],
)
def test_what_is_no_setting_cannot_be_read(text):
    said = "is not names with options|is neither a name nor"
    with pytest.raises(UserError, match=said) as caught:
        make(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@given(st.text(max_size=30) | st.text("croplif+(),=.01 ", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        made = make(text)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert made is None or isinstance(made, augment.Augmentation)


def test_values_are_checked_without_the_parser_too():
    with pytest.raises(UserError, match="probability"):
        Flip(2.0)
    with pytest.raises(UserError, match="least"):
        dataclasses.replace(Erase(), least=0.9)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Flip().probability = 1
