"""The flag that asks for JSON, for programs that print an answer."""

from absl import flags

JSON = flags.DEFINE_bool("json", False, "Print JSON, with all that is known of the answer.")
