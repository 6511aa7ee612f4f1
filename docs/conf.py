"""The site of these pages, by Sphinx: `make docs` writes it to docs/_build/, readable without a network."""

from pathlib import Path

project = "noisetransfer"
author = "the noisetransfer contributors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # links to headings, as in Markdown viewers
highlight_language = "text"  # blocks that name no language are commands and equations
html_theme = "alabaster"
html_theme_options = {
    "description": "which noise protects against which modification",
    "page_width": "1100px",
}
html_show_sphinx = False
html_copy_source = False

HERE = Path(__file__).parent
FIRST = [
    "first-study",
    "method",
    "figures",
    "tables",
    "adding",
    "pretrained",
    "library",
    "clusters",
    "performance",
]


def _pages() -> list[str]:
    """Return all pages but the index: the first ones in their order, then the others."""
    found = [str(path.relative_to(HERE).with_suffix("")) for path in sorted(HERE.rglob("*.md"))]
    places = {name: place for place, name in enumerate(FIRST)}
    return sorted(set(found) - {"index"}, key=lambda name: (places.get(name, len(FIRST)), name))


def _navigation(app: object, name: str, source: list[str]) -> None:  # noqa: ARG001
    """Give the first page the list of all pages, which would be noise where Markdown is read as it is."""
    if name == "index":
        listed = "\n".join(_pages())
        source[0] += f"\n```{{toctree}}\n:hidden:\n{listed}\n```\n"


def setup(app: object) -> None:
    """Connect what Sphinx calls."""
    app.connect("source-read", _navigation)  # type: ignore[attr-defined]
