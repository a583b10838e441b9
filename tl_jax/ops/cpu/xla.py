"""The XLA flag that brings back the faster of the CPU backend's two convolutions.

The default one is slower by a factor of 1.5 to 2.5 on the nets of this zoo.
"""

import logging
import os

from tl_jax.errors import UserError
from tl_jax.ops.cpu import switch

logger = logging.getLogger(__name__)

_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# The flag is experimental, and XLA ends the process over a flag that it does not know. Hence only
# with versions of jaxlib that the suite ran with. (oneDNN's foreign functions need no such list:
# XLA itself asks them for the version of its interface, and refuses another.)
TESTED = ("0.10.2", "0.12.0.1")


def set_flag() -> None:
    """Add the flag to XLA_FLAGS, which JAX reads when its first backend starts.

    A value that the user has set stays. Where the switch has a wrong value nothing happens: an
    import cannot report it well, and the first operation does.
    """
    try:
        fast = switch.fast()
    except UserError:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if not fast or _FLAG in flags:
        return
    if (found := jaxlib_version()) not in TESTED:
        logger.debug("jaxlib %s: %s= is set with %s only", found, _FLAG, ", ".join(TESTED))
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}=".strip()


def jaxlib_version() -> str:
    """The version of jaxlib, without importing more of it; empty where there is none."""
    try:
        from jaxlib.version import __version__
    except ImportError:
        return ""
    return __version__
