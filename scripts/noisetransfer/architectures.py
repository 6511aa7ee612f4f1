"""Registry of the networks that we train ourselves, as plain data (the Snakefile reads it without torch)."""

from __future__ import annotations

from dataclasses import dataclass

from noisetransfer.errors import StudyError

ACTIVATIONS = ("tanh", "relu")


@dataclass(frozen=True)
class Convolution:
    """A convolution, its nonlinearity and, if `pool`, a 2 × 2 maximum pooling."""

    channels: int
    kernel: int
    padding: int = 0
    pool: bool = False


@dataclass(frozen=True)
class Architecture:
    """Hidden layers 1, 2, …: first the convolutions, then fully connected ones; a linear read-out on top.

    Attributes:
        images: (C, H, W) of the images that it is made for.
    """

    convolutions: tuple[Convolution, ...]
    linear: tuple[int, ...]
    images: tuple[int, int, int] = (1, 28, 28)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the hidden layers, L1 … Ln: after the nonlinearity and the pooling, if any."""
        layers = len(self.convolutions) + len(self.linear)
        return tuple(f"L{i + 1}" for i in range(layers))


# Source: arXiv 2606.13801 and the authors' release, for 28 × 28 grey images.
ARCHITECTURES = {
    "v1": Architecture((Convolution(32, 3, padding=1, pool=True),), (128, 64, 32, 16)),
    "v2": Architecture(
        (
            Convolution(6, 5, padding=2, pool=True),
            Convolution(16, 3, padding=1),
            Convolution(16, 5, pool=True),
        ),
        (32, 16),
    ),
    "v3": Architecture(
        (Convolution(6, 5, padding=2, pool=True), Convolution(16, 5, pool=True)), (32, 16)
    ),
}


def find(name: str) -> Architecture:
    """Look an architecture up.

    Raises:
        StudyError: if there is none of that name; the message lists those there are.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise StudyError(f"unknown architecture {name!r}; there are: {known}")
    return ARCHITECTURES[name]
