"""What bounds a step on many chips: computing, adding up gradients, or decoding. On paper.

    python -m experiments.scale --base=resnet50 --batch=4096 --chips=8,64,512

Multiply-accumulates and parameters are counted; the chip's and the network's rates are those that
the vendor states for TPU v5e (`tl_jax/describe/scale.py`). Nothing is measured.
"""

from absl import flags

from experiments import base_flags, cli
from experiments.base_flags import BASE
from tl_jax.errors import UserError

flags.adopt_module_key_flags(base_flags)
_BATCH = flags.DEFINE_integer("batch", 4096, "Images in a batch, of all chips.", lower_bound=1)
_CHIPS = flags.DEFINE_list("chips", "8,64,512", "Numbers of chips.")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    if BASE.value is None:
        raise UserError("of which network? --base=resnet50, for example")
    chips = [int(n) if n.isdecimal() else 0 for n in _CHIPS.value]
    if not all(chips):
        raise UserError("--chips takes whole numbers of at least 1, such as 8,64,512")
    from tl_jax.base.load import outline  # imports JAX, which --help does without
    from tl_jax.describe import scale
    from tl_jax.describe.layers import layers

    base = base_flags.resized(outline(BASE.value))
    rows = layers(base.chain, base.preprocessing.example)
    print(scale.table([scale.bounds(rows, count, batch=_BATCH.value) for count in chips]))


if __name__ == "__main__":
    cli.run(main)
