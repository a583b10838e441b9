"""How well detections agree with boxes: `average_precision` by VOC's rules and COCO's, `errors`."""

from tl_jax.stats.detection.errors import errors
from tl_jax.stats.detection.precision import RULES, average_precision

__all__ = ["RULES", "average_precision", "errors"]
