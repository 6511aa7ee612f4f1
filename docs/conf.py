"""The site of these pages, by Sphinx: `make docs` writes it to docs/_build/, readable without a network."""

project = "noisetransfer"
author = "the noisetransfer contributors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
suppress_warnings = ["toc.empty_glob"]  # where all pages are named below
myst_heading_anchors = 3  # links to headings, as in Markdown viewers
html_theme = "alabaster"
html_theme_options = {
    "description": "which noise protects against which modification",
    "page_width": "1100px",
}
html_show_sphinx = False
html_copy_source = False

PAGES = """
first-study
method
figures
tables
adding
pretrained
library
clusters
performance
results/README
*
"""


def _navigation(app: object, name: str, source: list[str]) -> None:  # noqa: ARG001
    """Give the first page the list of all pages, which would be noise where Markdown is read as it is."""
    if name == "index":
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n{PAGES}```\n"


def setup(app: object) -> None:
    """Connect what Sphinx calls."""
    app.connect("source-read", _navigation)  # type: ignore[attr-defined]
