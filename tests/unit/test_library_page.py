"""The page on the library runs as one script, as it says."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs(capsys):
    assert len(BLOCKS) == PAGE.read_text().count("```") // 2 > 5
    names = {}
    with torch.random.fork_rng(devices=[]):  # the page sets the seed
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    assert capsys.readouterr().out == "torch.Size([128, 4, 4]) 39 1024\n"
    assert names["prediction"].shape == (40,)
