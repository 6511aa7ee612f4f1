"""Sheets of images: what a modification and noise do to them, told by the nearest clean images."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Picture = NDArray[np.float32]

TITLES = {
    "clean": "nearest to\nclean",
    "modified": "nearest to\nmodified",
    "identity": "nearest under\nidentity noise",
    "full": "nearest under\nfull noise",
}
"""What the columns of nearest images are called."""


@dataclass(frozen=True)
class Sample:
    """An image under a source.

    Attributes:
        source: the modification.
        clean: (C, H, W) in [0, 1].
        modified: the same.
        change: (h, w), |Δ| at the site.
        nearest: the nearest other clean image, (C, H, W), to what is named as in `TITLES`.
        same: whether it is of the same class.
        share: of all images searched, the share whose nearest is.
    """

    source: str
    clean: Picture
    modified: Picture
    change: Picture
    nearest: Mapping[str, Picture]
    same: Mapping[str, bool]
    share: Mapping[str, float]


def noise_sheet(samples: Sequence[Sample], *, title: str, among: int) -> Figure:
    """Draw a row for each sample, of sources side by side in order.

    Args:
        samples: of one site; those of a source follow each other.
        title: what network and site this is.
        among: number of images searched.
    """
    columns = ["clean", "modified", "change at\nthe site |Δ|"]
    columns += [TITLES[name] for name in samples[0].nearest]
    figure = Figure(
        figsize=(0.95 * len(columns) + 1.2, 1.12 * len(samples) + 1.2), layout="constrained"
    )
    axes = figure.subplots(len(samples), len(columns), squeeze=False)
    for number, (row, sample) in enumerate(zip(axes, samples, strict=True)):
        _row(row, sample, first=not number or samples[number - 1].source != sample.source)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    note = (
        f"Nearest at the site, among {among} clean images without the image itself. Framed: another class. "
        "Below: share of all these images whose nearest is of the same class. Brightness of |Δ|: of each map "
        "its own."
    )
    wrapped = textwrap.fill(note, int(16 * figure.get_figwidth()))
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=7)
    return figure


def _row(axes: Sequence[Axes], sample: Sample, *, first: bool) -> None:
    for axis, picture in zip(axes, (sample.clean, sample.modified), strict=False):
        _show(axis, picture)
    axes[2].imshow(sample.change, cmap="cividis", vmin=0, aspect=_aspect(sample.change))
    axes[2].set(xticks=[], yticks=[])
    for axis, name in zip(axes[3:], sample.nearest, strict=True):
        _show(axis, sample.nearest[name])
        if not sample.same[name]:
            for side in axis.spines.values():
                side.set(edgecolor="#D55E00", linewidth=3)
        if first:
            axis.set_xlabel(f"{sample.share[name]:.2f}".replace("0.", "."), fontsize=7, labelpad=2)
    if first:
        axes[0].set_ylabel(sample.source, rotation=0, ha="right", va="center", fontsize=8)


def _aspect(change: Picture) -> Literal["equal", "auto"]:
    """Keep the pixels of a map square; stretch those of a flat site, which are one row."""
    return "equal" if len(change) > 1 else "auto"


def _show(axis: Axes, picture: Picture) -> None:
    axis.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
