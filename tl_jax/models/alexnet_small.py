"""AlexNet's order of layers (Krizhevsky et al. 2012, NeurIPS) for images of 28 x 28 pixels.

It has a large strided convolution first, then small ones, few poolings and dense layers on top, and
is narrow enough to be trained a thousand times. It does not belong to the zoo (it has no
`VARIANTS`): nobody publishes weights for it, so it need not agree with any library.

Convolutions are products over patches, and poolings reshape. XLA's CPU backend runs its own
convolutions at an eighth of the speed inside a loop, where `train.together` runs its steps: a step
of 64 images took 54 ms with them and takes 6.8 ms now; outside the loop XLA's take 8.4 (2 cores).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.chain.heads import Classifier
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.models.layers import FullyConnected
from tl_jax.ops.windows import pads, taps

CONVOLUTIONS = ((8, 5, 2), (16, 3, 1), (32, 3, 1), (32, 3, 1))  # (channels, kernel, stride)
POOLED = (2, 4)  # the numbers of the convolutions that max pooling follows
SIDE = 3  # of the maps below fc5, for inputs of 28 x 28


class PatchConv(nn.Module):
    """Convolution with ReLU: (N, H, W, C) to (N, H', W', features), as a product over patches."""

    features: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x):
        sides = (self.kernel, self.kernel)
        shape = (*sides, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        edges = pads("SAME", x.shape[1:3], sides, self.stride)
        patches = jnp.concatenate([part for *_, part in taps(x, sides, self.stride, edges)], -1)
        return jax.nn.relu(patches @ kernel.reshape(-1, self.features) + bias)


class HalvingPool(nn.Module):
    """Max pooling of 2 x 2 with stride 2: (N, H, W, C) to (N, H // 2, W // 2, C)."""

    @nn.compact
    def __call__(self, x):
        count, height, width, channels = x.shape
        x = x[:, : height // 2 * 2, : width // 2 * 2]
        return x.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))


def build(classes: int) -> Network:
    """Return the chain `conv1`, `conv2`, `pool2`, `conv3`, `conv4`, `pool4`, `fc5`, `head`."""
    layers = []
    for number, convolution in enumerate(CONVOLUTIONS, 1):
        layers.append(Layer(f"conv{number}", PatchConv(*convolution)))
        if number in POOLED:
            layers.append(Layer(f"pool{number}", HalvingPool()))
    top = Layer("fc5", FullyConnected(64, side=SIDE)), Layer("head", Classifier(classes))
    return Network((*layers, *top))


def preprocessing() -> Preprocessing:
    """Return the preprocessing: grey images, standardised by Fashion-MNIST's training pixels."""
    return Preprocessing(size=28, crop=1.0, mean=72.9, std=90.0, channels=1)
