"""Regimes: in which suffixes, and whether at test, the noise of an arm is on. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Regime:
    """One way of using noise.

    Attributes:
        meaning: in words.
        suffix: the one tested: trained under the arm's noise, that of arm none, or the base network's.
        tested: whether the arm's noise is on at test.
    """

    meaning: str
    suffix: Literal["arm", "none", "base"]
    tested: bool = True


REGIMES = {
    "retrain": Regime("suffix trained under the noise, which stays on at test", "arm"),
    "trained_only": Regime("suffix of retrain, noise off at test", "arm", tested=False),
    "tested_only": Regime("suffix of arm none in retrain, noise on at test", "none"),
    "inference": Regime("base network as it is, noise on at test", "base"),
}


def without_noise(regime: str) -> str:
    """Return the regime in which a network without noise is tested, once for all that it is the same in."""
    return regime if REGIMES[regime].suffix == "base" else "retrain"
