"""Serve a finished run on this machine: a page to drop a photo on or paste a text into, and JSON.

    python -m experiments.serve --run=runs/elpv
    curl --data-binary @photo.png http://127.0.0.1:8000/predict
    curl --data '{"text": "I loved it."}' http://127.0.0.1:8000/predict

Ctrl-C or SIGTERM end it, after the requests that have begun. Without TLS and accounts, it listens
to this machine alone; --host=0.0.0.0 opens it to the network.
"""

import pathlib

from absl import flags

from experiments import cli, run_flag
from experiments.run_flag import RUN
from tl_jax import interrupt
from tl_jax.errors import UserError

flags.adopt_module_key_flags(run_flag)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen at.")
_PORT = flags.DEFINE_integer("port", 8000, "Its port; 0: any that is free.", 0, 65535)


def main(argv: list[str]) -> None:
    """Print the address, and answer until a signal."""
    import PIL.Image

    from tl_jax.base.load import load_base  # these import JAX, which --help does without
    from tl_jax.serving import server

    cli.no_arguments(argv)
    if not RUN.value:
        raise UserError("which run? --run=runs/elpv")
    PIL.Image.MAX_IMAGE_PIXELS = server.MAX_PIXELS
    with (
        interrupt.caught(),
        server.Server(load_base(pathlib.Path(RUN.value)), _HOST.value, _PORT.value) as serving,
    ):
        serving.warm_up()
        print(f"serving at {server.address(serving)}", flush=True)
        serving.run()
    print("stopped")


if __name__ == "__main__":
    cli.run(main)
