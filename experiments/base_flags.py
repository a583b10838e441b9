"""The flags that name a base, for programs that take no config."""

from absl import flags

BASE = flags.DEFINE_string("base", None, "The architecture.")
WEIGHTS = flags.DEFINE_string("weights", None, "Its weights: a name, or a file.")
INPUT = flags.DEFINE_integer("input", None, "Side of its input in pixels; default: the usual one.")
