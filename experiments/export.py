"""Write a finished run as one StableHLO program that JAX alone reads, with its description beside.

    python -m experiments.export --run=runs/elpv --out=elpv.stablehlo

elpv.json says what goes in and comes out; of a run on texts elpv.tokenizer.json is written too.
With --names=torchvision:IMAGENET1K_V1, or a weight file of torchvision's or timm's, --out is a
.safetensors file with that library's names instead.
"""

import pathlib

from absl import flags

from experiments import cli, out_flag, run_flag
from experiments.out_flag import OUT
from experiments.run_flag import RUN
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(run_flag)
flags.adopt_module_key_flags(out_flag)
_NAMES = flags.DEFINE_string("names", None, "Weights that say how another library calls them.")


def main(argv: list[str]) -> None:
    """Write the file, and print its path and size."""
    from tl_jax.base.load import load_base  # these import JAX, which --help does without
    from tl_jax.serving import stablehlo

    cli.no_arguments(argv)
    if not RUN.value or not OUT.value:
        raise UserError("which run, and where to? --run=runs/elpv --out=elpv.stablehlo")
    base, out = load_base(pathlib.Path(RUN.value)), path_of(OUT.value)
    if _NAMES.value is None:
        stablehlo.export(base, out)
    elif out.suffix != ".safetensors":
        raise UserError(f"--out={out}: with --names it is a file .safetensors")
    else:
        base.save(out, names=_NAMES.value)
    print(f"{out}  {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
