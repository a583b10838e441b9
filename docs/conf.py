"""The site of these documents: `make docs` builds it into build/docs, without a network."""

project = "tl_jax"
html_title = "tl_jax"
html_theme = "sphinx_book_theme"
html_theme_options = {"navbar_persistent": []}  # the search is in the sidebar
html_static_path = ["_static"]
html_css_files = ["site.css"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = []
nb_execution_mode = "off"  # the Makefile runs the lab

# Links to `#a-heading`, as a code host makes them, at all depths that the documents have.
myst_heading_anchors = 4

# Docstrings name code in single backticks.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
# Every reference to this library must lead somewhere; other libraries' pages are not at hand.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!tl_jax\.).*")]
