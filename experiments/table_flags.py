"""The flag that names a table's file, for programs that print a table."""

from absl import flags

CSV = flags.DEFINE_string("csv", None, "Write the table to this file, all digits; -: print that.")
