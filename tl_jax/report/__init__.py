"""Reports of runs and studies: self-contained HTML pages, and a table for the terminal."""

from tl_jax.report.html import require
from tl_jax.report.page import write
from tl_jax.report.text import terminal_table

__all__ = ["require", "terminal_table", "write"]
