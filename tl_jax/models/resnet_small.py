"""A residual network (He et al. 2015, arXiv:1512.03385, section 4.2) for images of 28 x 28 pixels.

Three stages of two basic blocks with 16, 32 and 64 channels, as in the paper's table for CIFAR-10
with n = 2. Other than there, the first stage halves its maps too (14, 7 and 4 pixels), which makes
a step cheaper, and a shortcut that changes the channels is a 1 x 1 convolution. Like
`alexnet_small` it does not belong to the zoo: nobody publishes weights for it.
"""

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.models.layers import ConvNorm, pool_and_head
from tl_jax.models.resnet import Block

WIDTHS, BLOCKS = (16, 32, 64), 2  # channels of a stage, and blocks in each


def build(classes: int) -> Network:
    """Return the chain `stem`, `stage1_block1` to `stage3_block2`, `pool`, `head`."""
    layers = [Layer("stem", ConvNorm(WIDTHS[0], 3, 1, 1))]
    for stage, width in enumerate(WIDTHS, 1):
        for number in range(1, BLOCKS + 1):
            stride = 2 if number == 1 else 1
            block = Block(width, width, stride, "torchvision", basic=True)
            layers.append(Layer(f"stage{stage}_block{number}", block))
    return Network((*layers, *pool_and_head(classes)))
