"""The site of the documents builds without a warning, holds every page, and needs no network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip(
        "myst_parser", reason="the site needs the extra docs: pip install '.[docs]'"
    )
    built = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"-m (sphinx .*) docs docs/_build", (ROOT / "Makefile").read_text())
    places = ["-d", str(built / "doctrees"), "docs", str(built / "html")]
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), *places], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return built / "html"


def test_every_page_is_there_and_the_first_leads_to_all(site):
    first = (site / "index.html").read_text()
    for page in PAGES:
        address = str(page.relative_to(ROOT / "docs").with_suffix(".html"))
        assert (site / address).is_file()
        assert address == "index.html" or f'href="{address}"' in first


def test_nothing_is_loaded_from_elsewhere(site):
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    loaded = r"""<(?:script|img|link)\b[^>]*(?:src|href)="(?:https?:)?//|url\(["']?(?:https?:)?//|@import"""
    found = {path.name: re.findall(loaded, path.read_text()) for path in pages}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_equations_and_images_are_there(site):
    assert "ξ ~ N(0, Σ)" in (site / "method.html").read_text()
    images = re.findall(r'<img [^>]*src="([^"]+)"', (site / "figures.html").read_text())
    assert len(images) >= 9
    assert [image for image in images if not (site / image).is_file()] == []
