"""Ids of networks: a section of the study, or a variant of it that is trained on other images.

`v2` is trained on clean images. `v2+input_noise@0.1` sees Gaussian noise of σ = 0.1 on every image, in
training and in use. `v2+pgd@0.05x0.3` is trained adversarially: PGD at ε = 0.05 replaces 0.3 of the images
of each step. Read by the Snakefile: imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from noisetransfer.errors import StudyError
from noisetransfer.modifications import canonical, parse

IN_TRAINING = ("fgm", "pgd")
"""Attacks that may craft training images: every step of theirs is the same work, whatever the images."""


@dataclass(frozen=True)
class Variant:
    """A network as it is trained.

    Attributes:
        base: name of the section under `networks` that gives architecture, data and training.
        input_noise: σ of the Gaussian noise on the images, in pixel units of [0, 1]; 0: none.
        attack: id of the attack that crafts training images, such as "pgd@0.05"; None: none.
        ratio: share of the images of a training step that are adversarial.
    """

    base: str
    input_noise: float = 0.0
    attack: str | None = None
    ratio: float = 0.0

    def __str__(self) -> str:
        """Return the id, in its one spelling."""
        noise = f"+input_noise@{self.input_noise!r}" if self.input_noise else ""
        attack = f"+{self.attack}x{self.ratio!r}" if self.attack else ""
        return self.base + noise + attack


def variant(id: str) -> Variant:
    """Read the id of a network.

    Raises:
        StudyError: if what follows a plus sign is neither input noise nor an attack with a ratio.
    """
    base, *changes = id.split("+")
    read = [_change(id, text) for text in changes]
    fields = [field for change in read for field in change]
    if len(set(fields)) < len(fields):
        raise StudyError(f"{id!r}: the same change twice")
    return Variant(base, **{name: value for change in read for name, value in change.items()})  # type: ignore[arg-type]


def _change(id: str, text: str) -> dict[str, float | str]:
    noise = re.fullmatch(r"input_noise@([0-9.e-]+)", text)
    if noise and 0 < _number(noise[1]) <= 1:
        return {"input_noise": _number(noise[1])}
    attack = re.fullmatch(r"(.+@.+)x([0-9.e-]+)", text)
    if attack and 0 < _number(attack[2]) <= 1 and parse(attack[1])[0].name in IN_TRAINING:
        return {"attack": canonical(attack[1]), "ratio": _number(attack[2])}
    raise StudyError(
        f"{id!r}: {text!r} is no change of a network; allowed: input_noise@σ (0 < σ ≤ 1), or an attack "
        f"({', '.join(IN_TRAINING)}) and the share of images it replaces, such as pgd@0.1x0.5"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
