"""Sphinx configuration: ``sphinx-build -W -n docs docs/_build``."""

project = "loop-harness"
author = "The loop-harness authors"
copyright = "2026, the loop-harness authors"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "alabaster"
html_title = "loop-harness"
html_theme_options = {
    "description": "Reproduce event-loop bugs: one async test function, every release and Python",
    "fixed_sidebar": True,
}
highlight_language = "text"
