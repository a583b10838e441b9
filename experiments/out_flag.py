"""The flag --out of programs that write one file."""

from absl import flags

OUT = flags.DEFINE_string("out", None, "File to be written.")
