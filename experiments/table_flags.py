"""The flag that names a table's file, for programs that print one."""

from absl import flags

CSV = flags.DEFINE_string("csv", None, "Write the table there with all digits; -: print it so.")
