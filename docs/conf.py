"""The site of these documents: `make docs` builds it into build/docs, without a network."""

import re

project = "tl_jax"
html_title = "tl_jax"
html_theme = "sphinx_book_theme"
html_theme_options = {"navbar_persistent": [], "footer_content_items": []}
html_static_path = ["_static"]
html_css_files = ["site.css"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["lab.md"]  # the text of lab.ipynb, which has what it prints too
nb_execution_mode = "off"  # `make lab` runs it
nb_output_stderr = "remove"  # lines of progress

highlight_language = "none"  # of blocks that name no language

# Links to `#a-heading`, as a code host makes them, at all depths that the documents have.
myst_heading_anchors = 4

add_module_names = False  # headings have them
autodoc_default_options = {"members": True, "member-order": "bysource"}
default_role = "code"  # docstrings name code in single backticks
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]  # types in signatures, where no page has them


def setup(app):
    app.connect("autodoc-process-docstring", as_plain_text)
    app.connect("autodoc-skip-member", is_field)


def as_plain_text(app, what, name, obj, options, lines):
    """Escape what RST takes for markup: docstrings have backticks, lists and examples alone."""
    for number, line in enumerate(lines):
        bullet, text = re.match(r"(\s*(?:\* |>>>.*)?)(.*)", line).groups()
        parts = text.split("`")
        parts[::2] = [re.sub(r"[*|]|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = bullet + "`".join(parts)


def is_field(app, what, name, obj, skip, options):
    """Leave fields of named tuples out: the signature has them, their docstrings say nothing."""
    return True if str(obj.__doc__).startswith("Alias for field") else None
