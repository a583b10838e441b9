"""MobileNet v1 (Howard et al. 2017, arXiv:1704.04861) in four widths, with ReLU6."""

import flax.linen as nn
import jax

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing, minus_one_to_one
from tl_jax.models.layers import ConvNorm, conv_norm, head, pool_and_head
from tl_jax.weights import published
from tl_jax.weights.convert import Rule, dense_of_conv, keras_depthwise

# name: width multiplier
VARIANTS = {
    "mobilenet_v1": 1.0,
    "mobilenet_v1_075": 0.75,
    "mobilenet_v1_050": 0.5,
    "mobilenet_v1_025": 0.25,
}
TIMM_NAMES = {"mobilenet_v1": "mobilenetv1_100"}

# (channels, blocks, stride of the first) of the separable convolutions: Howard et al., table 1
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))

# name: (width in the file's name, top-1, top-5), from Keras's table of applications; of the narrow
# variants, from TensorFlow 2.4's documentation of `tf.keras.applications.mobilenet`
KERAS = {
    "mobilenet_v1": ("1_0", 70.4, 89.5),
    "mobilenet_v1_075": ("7_5", 68.4, None),
    "mobilenet_v1_050": ("5_0", 63.7, None),
    "mobilenet_v1_025": ("2_5", 50.6, None),
}


def _keras_imagenet(width: str, *accuracy: float | None) -> published.Published:
    file = f"mobilenet/mobilenet_{width}_224_tf.h5"
    return published.keras(file, "", minus_one_to_one(224), *accuracy)


PUBLISHED = {name: {"keras:imagenet": _keras_imagenet(*row)} for name, row in KERAS.items()}
PUBLISHED["mobilenet_v1"]["timm:ra4_e3600_r224_in1k"] = published.timm(
    "mobilenetv1_100.ra4_e3600_r224_in1k",
    minus_one_to_one(224, interpolation="bicubic"),
    75.382,  # at 224: timm's release notes, July 2024
    92.312,
)


class SeparableConv(nn.Module):
    """3x3 depthwise and 1x1 ("pointwise") convolution, each with batch norm and ReLU6."""

    features: int
    stride: int
    form: str

    @nn.compact
    def __call__(self, x):
        keras = self.form == "keras"
        # Keras pads only below and on the right; for odd sizes SAME does not.
        padding = ((0, 1), (0, 1)) if keras and self.stride == 2 else 1
        options = _options(self.form)
        x = ConvNorm(
            x.shape[-1], 3, self.stride, padding, depthwise=True, name="depthwise", **options
        )(x)
        return ConvNorm(self.features, name="pointwise", **options)(x)


def _options(form: str) -> dict:
    return {"activation": jax.nn.relu6, "epsilon": 1e-3 if form == "keras" else 1e-5}


def forms(name: str) -> tuple[str, ...]:
    return ("keras", "timm")


def build(name: str, form: str, classes: int = 1000) -> Network:
    """Return the chain `conv1`, `block1`, ..., `block13`, `pool`, `head`."""
    width = VARIANTS[name]
    blocks = [
        SeparableConv(int(features * width), 1 if i else stride, form)
        for features, repeats, stride in STAGES
        for i in range(repeats)
    ]
    padding = "SAME" if form == "keras" else 1
    return Network(
        (
            Layer("conv1", ConvNorm(int(32 * width), 3, 2, padding, **_options(form))),
            *(Layer(f"block{i}", block) for i, block in enumerate(blocks, 1)),
            *pool_and_head(classes),
        )
    )


def preprocessing(name: str, form: str) -> Preprocessing:
    return minus_one_to_one(224, interpolation="bilinear" if form == "keras" else "bicubic")


def rules(name: str, form: str) -> list[Rule]:
    return _keras_rules() if form == "keras" else _timm_rules()


def _keras_rules() -> list[Rule]:
    return [
        *conv_norm("conv1", "conv1_bn", "conv1"),
        Rule(r"conv_dw_(\d+)", r"block\1/depthwise", keras_depthwise),
        Rule(r"conv_dw_(\d+)_bn", r"block\1/depthwise/norm"),
        Rule(r"conv_pw_(\d+)", r"block\1/pointwise"),
        Rule(r"conv_pw_(\d+)_bn", r"block\1/pointwise/norm"),
        Rule("conv_preds", "head/Dense_0", dense_of_conv),
    ]


def _timm_rules() -> list[Rule]:
    prefixes = [rf"blocks\.{s}\.{i}\." for s, (_, n, _) in enumerate(STAGES) for i in range(n)]
    rules = conv_norm("conv_stem", "bn1", "conv1")
    for i, prefix in enumerate(prefixes, 1):
        rules += conv_norm(prefix + "conv_dw", prefix + "bn1", f"block{i}/depthwise")
        rules += conv_norm(prefix + "conv_pw", prefix + "bn2", f"block{i}/pointwise")
    return rules + head("classifier")
