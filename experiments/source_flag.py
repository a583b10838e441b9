"""The flag that names another task, for programs that tell how far it is from theirs."""

from absl import flags

SOURCE = flags.DEFINE_string("source", "", "Another task, whose distance from this one is told.")
