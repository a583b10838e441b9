"""The flag that names a finished run, for programs that use what it gave."""

from absl import flags

RUN = flags.DEFINE_string("run", None, "Folder of a finished run, or the file of a base.")
