"""How many eigenpairs of a covariance are kept: a number, or a rule that finds one. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from reprlib import Repr
from typing import Literal

from noisetransfer.errors import StudyError

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 1, 60, 60


@dataclass(frozen=True)
class Explained:
    """The fewest leading eigenpairs that explain a share of the trace, above 0 and up to 1."""

    share: float

    def __str__(self) -> str:
        return f"explained@{self.share!r}"


@dataclass(frozen=True)
class HeldOut:
    """The number under which differences that were held out are likeliest."""

    def __str__(self) -> str:
        return "held_out"


Rank = int | Literal["full"] | Explained | HeldOut


def parse_rank(value: object) -> Rank:
    """Read a rank: 256 (or as text), "full", "explained@0.95" or "held_out"; `str` undoes it.

    Raises:
        StudyError: if it is none of them.
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text == "full":
        return "full"
    if text == "held_out":
        return HeldOut()
    if re.fullmatch(r"0*[1-9]\d{0,8}", text):
        return int(text)
    share = re.fullmatch(r"explained@(\d*\.?\d+(?:e-\d+)?)", text)
    if share and 0 < float(share[1]) <= 1:
        return Explained(float(share[1]))
    raise StudyError(
        f"{_SHORT.repr(value)} is no rank; write a whole number from 1, full, held_out, or explained@ "
        "with a share of the trace above 0 and up to 1, such as explained@0.95"
    )
