"""What the zoo's nets see, and the shapes of what they give; their answers: test_parity.py."""

import functools

import jax
import numpy as np
import PIL.Image
import pytest
import skimage.data
import sklearn.datasets
from parity import fixtures

from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.chain.programs import forward

CATS = {281, 282, 283, 284, 285}  # ImageNet's five classes of domestic cat
ESPRESSO, PALACE = 967, 698


@functools.cache
def real(name: str) -> Base:
    return load_base(name, f"pip:{name.replace('_lite', '-lite')}")


@functools.cache
def photographs() -> dict[str, PIL.Image.Image]:
    arrays = {name: getattr(skimage.data, name)() for name in ("chelsea", "coffee", "rocket")}
    # In alphabetical order, as it documents: china.jpg, flower.jpg
    arrays |= zip(("china", "flower"), sklearn.datasets.load_sample_images().images, strict=True)
    return {name: PIL.Image.fromarray(array) for name, array in arrays.items()}


def probabilities(base: Base) -> dict[str, np.ndarray]:
    """(1000,) by photograph."""
    pixels = np.stack([base.preprocessing.fit(image) for image in photographs().values()])
    logits = forward(base.chain, base.variables, base.preprocessing.normalise(pixels))
    return dict(zip(photographs(), np.asarray(jax.nn.softmax(logits)), strict=True))


def assert_close(got, wanted, tolerance=1e-4):
    """Within `tolerance` of the largest absolute value: random weights make values of any size."""
    assert np.abs(np.asarray(got) - wanted).max() <= tolerance * np.abs(wanted).max()


def test_efficientnet_lite0_cut_twice_answers_as_its_reference_on_real_weights():
    reference = fixtures.load("pip-efficientnet_lite0-real-224")
    base = real("efficientnet_lite0")
    run = functools.partial(forward, base.chain, base.variables)
    lower = run(reference.inputs, stop="stage4_block2")
    features = run(lower, start="stage4_block2", stop="pool")
    assert_close(features, reference.features)
    assert_close(run(features, start="pool"), reference.logits)


def test_efficientnet_lite0_sees_in_photographs_what_its_reference_sees():
    expected = fixtures.load("pip-efficientnet_lite0-real-224").meta["photographs_top3"]
    found = probabilities(real("efficientnet_lite0"))
    assert found.keys() == expected.keys()
    for photograph, top3 in expected.items():
        classes, wanted = zip(*top3, strict=True)
        assert tuple(np.argsort(-found[photograph])[:3]) == classes, photograph
        np.testing.assert_allclose(found[photograph][list(classes)], wanted, atol=0.02)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("efficientnet_lite0", 192),
        ("efficientnet_lite1", None),
        pytest.param("efficientnet_lite2", None, marks=pytest.mark.slow),
    ],
)
def test_efficientnet_lite_sees_what_is_there(name, size):
    found = probabilities(real(name).resized(size))
    assert found["chelsea"].argmax() in CATS
    assert found["coffee"].argmax() == ESPRESSO
    assert found["china"].argmax() == PALACE


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        # (side + 2 * padding - kernel) // stride + 1: 113 after the convolution, 57 after pooling
        ("resnet18", {"stem": 57, "stage1_block2": 57, "stage2_block1": 29, "stage4_block2": 8}),
        ("resnet50", {"stem": 57, "stage1_block3": 57, "stage2_block1": 29, "stage4_block3": 8}),
        # ceil(side / stride)
        ("efficientnet_lite0", {"stem": 113, "stage2_block1": 57, "stage4_block3": 15, "top": 8}),
    ],
)
def test_sides_of_an_odd_input_are_rounded_as_by_hand(name, sides):
    _, outputs = load_base(name, "random:0").with_head(7).chain.shapes((2, 225, 225, 3))
    assert {layer: outputs[layer].shape[1:3] for layer in sides} == {
        layer: (side, side) for layer, side in sides.items()
    }
    assert outputs["head"].shape == (2, 7)


def test_resnet_preprocessing_is_torchvisions():
    preprocessing = load_base("resnet18", "random:0").preprocessing
    image = PIL.Image.fromarray(skimage.data.astronaut())  # 512 x 512
    # torchvision: shorter side to 256, then the central 224
    wanted = np.asarray(image.resize((256, 256), PIL.Image.Resampling.BILINEAR))[16:-16, 16:-16]
    got = preprocessing.fit(image)
    np.testing.assert_array_equal(got, wanted)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(
        preprocessing.normalise(got[None])[0], (got / 255 - mean) / std, atol=1e-5
    )


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_a_grey_image_is_one_with_three_equal_channels(name):
    preprocessing = load_base(name, "random:0").preprocessing
    grey = preprocessing.fit(PIL.Image.fromarray(skimage.data.camera()))
    assert grey.shape == (224, 224, 1)
    np.testing.assert_array_equal(
        preprocessing.normalise(grey[None]), preprocessing.normalise(grey.repeat(3, -1)[None])
    )
