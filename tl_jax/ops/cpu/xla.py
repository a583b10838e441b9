"""The XLA flag that selects the faster of the CPU backend's two convolutions.

The default one is slower by a factor of 1.5 to 2.5 on the nets of this zoo.
"""

import logging
import os

from tl_jax.errors import UserError
from tl_jax.ops.cpu import switch

logger = logging.getLogger(__name__)

_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# The flag is experimental, and XLA ends the process over a flag that it does not know. So it is set
# only with versions of jaxlib that the suite ran with. (oneDNN's foreign functions need no such
# list: XLA itself asks them for the version of its interface, and refuses any other.)
TESTED = ("0.10.2", "0.12.0.1")


def set_flag() -> None:
    """Add the flag to XLA_FLAGS, which JAX reads when its first backend starts.

    A value that the user has set stays. If the switch has a wrong value, nothing happens here: an
    import cannot report that well, and the first operation will.
    """
    try:
        fast = switch.fast()
    except UserError:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if not fast or _FLAG in flags:
        return
    if (version := jaxlib_version()) not in TESTED:
        logger.debug("jaxlib %s: %s= is set with %s only", version, _FLAG, ", ".join(TESTED))
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}=".strip()


def jaxlib_version() -> str:
    """Return jaxlib's version, without importing more of it; empty if it is not installed."""
    try:
        from jaxlib.version import __version__
    except ImportError:
        return ""
    return __version__
