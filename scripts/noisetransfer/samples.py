"""Sample covariances of streamed differences: by d × d moments, or by the Gram matrix where d is large."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from scipy.linalg import eigh
from torch import Tensor

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 2**23
"""Numbers in a block of columns, which is all that is in float64 at a time: 64 MiB."""

BAND = 256
"""Rows of a symmetric sum that are added to at once."""

HELD_OUT_EVERY = 5
"""Where a part is held out: every fifth difference, counted from the fifth."""

NEGLIGIBLE = 1e-6
"""Share of the mean variance: where likelihoods are compared, less variance counts as that much."""


@dataclass(frozen=True)
class Split:
    """A covariance fitted to a part of the differences, and how the rest, held out, spread in its eigenbasis.

    Attributes:
        d: length of a difference.
        values: (q,) eigenvalues of the fitted part above `floor`, descending, without ridge.
        trace: of the fitted part; the mean removed, divisor its number − 1.
        energies: (q,) mean square of the held-out differences along each eigenvector, from the fitted mean.
        energy: their mean squared length.
    """

    d: int
    values: Tensor
    trace: float
    energies: Tensor
    energy: float

    @property
    def floor(self) -> float:
        """Least variance that is not negligible."""
        return NEGLIGIBLE * max(self.trace, self.energy) / self.d

    def resolved(self) -> Split:
        """Return the same without the eigenvalues that are negligible."""
        kept = self.values > self.floor
        return replace(self, values=self.values[kept], energies=self.energies[kept])


@dataclass(frozen=True)
class Sample(ABC):
    """The covariance Σ of n differences Δ (mean removed, divisor n − 1), without ridge.

    Attributes:
        n: number of differences.
        mean: (d,), float64.
        diagonal: (d,), of Σ, float64.
        matrix: the smaller of Σ (d, d) and D Dᵀ / (n − 1) (n, n), D the centred differences, float64. They
            share their eigenvalues.
        split: of the differences, if that was asked for.
    """

    n: int
    mean: Tensor
    diagonal: Tensor
    matrix: Tensor
    split: Split | None

    @property
    def trace(self) -> float:
        """Tr Σ."""
        return float(self.diagonal.sum())

    @property
    def effective_rank(self) -> float:
        """(Σλ)² / Σλ² of the eigenvalues; 0 where all are."""
        norm = float(torch.linalg.vector_norm(self.matrix))
        return (self.trace / norm) ** 2 if norm else 0.0

    def eigenvalues(self) -> Tensor:
        """Return all eigenvalues of `matrix`, descending and ≥ 0."""
        ascending: Tensor = torch.linalg.eigvalsh(self.matrix)
        return ascending.flip(0).clamp(min=0)

    @abstractmethod
    def leading(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the leading eigenvalues, descending, and their eigenvectors of `matrix` as columns."""

    @abstractmethod
    def directions(self, values: Tensor, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the eigenvectors of Σ to those of `leading`, (d, r) float32, in given lengths."""

    @abstractmethod
    def exact(self, ridge: float) -> tuple[Tensor, float] | None:
        """Return F (d, k), float32, and ρ with F Fᵀ + ρ I = Σ + ridge · I; None if rounding forbids."""


def collect(
    differences: Iterable[Tensor], *, n: int, d: int, name: str, split: bool = False
) -> Sample:
    """Take in differences, (m, d) float32 at a time, n in all, and return their sample covariance.

    With n > d it takes memory for two or three d × d matrices; otherwise 4 n·d bytes for the differences and
    16 n² for their Gram matrix.

    Args:
        differences: chunks of Δ; their sizes matter by rounding at most.
        n: number of differences, 2 or more.
        d: their length.
        name: of the source, for messages.
        split: also fit a part of the differences and hold out the rest.

    Raises:
        StudyError: if there are other than n differences, too few to hold any out, or NaN or infinities.
    """
    if split and n < HELD_OUT_EVERY:
        raise StudyError(
            f"source {name}: to hold differences out takes {HELD_OUT_EVERY} images or more, not {n}; "
            "write rank and ridge as numbers"
        )
    checked = _checked(differences, n, d, name)
    return _moments(checked, n, d, split) if n > d else _gram(checked, n, d, split)


class Moments(Sample):
    """Σ itself."""

    def leading(self, rank: int) -> tuple[Tensor, Tensor]:
        """See `Sample`."""
        return _leading_eigenpairs(self.matrix, rank)

    def directions(self, values: Tensor, vectors: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        """See `Sample`."""
        return (vectors * lengths).float().contiguous()

    def exact(self, ridge: float) -> tuple[Tensor, float] | None:
        """Return the Cholesky factor of Σ, ridge included."""
        matrix = self.matrix.clone()
        matrix.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        return None if failed else (factor.float().contiguous(), 0.0)


@dataclass(frozen=True)
class Gram(Sample):
    """The Gram matrix of the differences.

    Attributes:
        rows: Δ, (n, d), float32, mean included.
    """

    rows: Tensor

    def leading(self, rank: int) -> tuple[Tensor, Tensor]:
        """See `Sample`; of eigenvalues that are 0 but for rounding, none."""
        return _significant(*_leading_eigenpairs(self.matrix, rank))

    def directions(self, values: Tensor, vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `Sample`."""
        weights = vectors * (lengths / (values * (self.n - 1)).sqrt())
        factor = self.rows.new_empty(self.rows.shape[1], len(values))
        for columns, block in _centred(self.rows, self.mean):
            factor[columns] = (block.mT @ weights).float()
        return factor

    def exact(self, ridge: float) -> tuple[Tensor, float]:
        """Return the differences themselves as F (d, n − 1), a view of `rows`, which are written over.

        A Householder reflection that turns (1, …, 1) into the first axis leaves Dᵀ D as it is and the first
        row of D, which is centred, 0.
        """
        for columns, block in _centred(self.rows, self.mean):
            block[1:] += block[0] / (self.n**0.5 - 1)
            self.rows[:, columns] = (block / (self.n - 1) ** 0.5).float()
        return self.rows[1:].mT, ridge


def _checked(
    differences: Iterable[Tensor], n: int, d: int, name: str
) -> Iterator[tuple[int, Tensor]]:
    """Yield each chunk with the number of its first row."""
    start = 0
    for chunk in differences:
        if chunk.shape[1:] != (d,) or start + len(chunk) > n:
            raise StudyError(
                f"source {name}: differences {start} and on have shape {tuple(chunk.shape)}; expected "
                f"rows of {d} numbers, {n} in all"
            )
        if not bool(torch.isfinite(chunk).all()):
            raise StudyError(
                f"source {name}: NaN or infinity in the activations; the base network has diverged "
                "(lower its learning rate) or the modified images are damaged (delete them)"
            )
        yield start, chunk
        start += len(chunk)
    if start < n:
        raise StudyError(f"source {name}: {start} differences; expected {n}")


@dataclass
class _Sums:
    """Sums over rows (m, d), in float64; of the products the lower triangle, until they are mirrored."""

    n: int
    total: Tensor
    second: Tensor

    @classmethod
    def zero(cls, d: int, device: torch.device) -> _Sums:
        return cls(0, _zeros(d, device=device), _zeros(d, d, device=device))

    def add(self, rows: Tensor) -> None:
        self.n += len(rows)
        self.total += rows.double().sum(0)
        # products of float32, sums in float64: twice as fast, and exact to 1e-6 of the trace
        _add_products(self.second, rows.mT)

    def merge(self, other: _Sums) -> None:
        self.n += other.n
        self.total += other.total
        self.second += other.second

    def scatter(self, centre: Tensor) -> Tensor:
        """Return the sum of (x − c)(x − c)ᵀ over the rows, (d, d)."""
        cross = torch.outer(self.total - self.n * centre / 2, centre)
        return self.second - cross - cross.mT


def _held_out(start: int, count: int) -> Tensor:
    """Return which of the differences start … start + count − 1 are held out, (count,), bool."""
    return torch.arange(start + 1, start + count + 1) % HELD_OUT_EVERY == 0


def _moments(chunks: Iterable[tuple[int, Tensor]], n: int, d: int, split: bool) -> Moments:
    parts: list[_Sums] = []
    for start, chunk in chunks:
        held = _held_out(start, len(chunk)).to(chunk.device)
        own = (chunk[~held], chunk[held]) if split else (chunk,)
        parts = parts or [_Sums.zero(d, chunk.device) for _ in own]
        for part, rows in zip(parts, own, strict=True):
            part.add(rows.double() if split else rows)  # likelihoods need small eigenvalues too
    for part in parts:
        _mirror(part.second)
    found = _split_of_moments(*parts) if split else None
    whole, *rest = parts
    for part in rest:
        whole.merge(part)
    mean = whole.total / n
    covariance = whole.second.addr_(mean, mean, alpha=-n).div_(n - 1)
    return Moments(n, mean, covariance.diagonal().clamp(min=0), covariance, found)


def _split_of_moments(fitted: _Sums, rest: _Sums) -> Split:
    mean, d = fitted.total / fitted.n, len(fitted.total)
    covariance = fitted.scatter(mean) / (fitted.n - 1)
    values, vectors = _leading_eigenpairs(covariance, min(fitted.n - 1, d))
    spread = rest.scatter(mean) / rest.n
    energies = (spread @ vectors).mul_(vectors).sum(0).clamp(min=0)
    whole = Split(d, values, float(covariance.trace()), energies, float(spread.trace()))
    return whole.resolved()


def _gram(chunks: Iterable[tuple[int, Tensor]], n: int, d: int, split: bool) -> Gram:
    rows = torch.empty(0)
    for start, chunk in chunks:
        rows = rows if len(rows) else torch.empty(n, d, dtype=torch.float32, device=chunk.device)
        rows[start : start + len(chunk)] = chunk
    mean, squares = _zeros(d, device=rows.device), _zeros(d, device=rows.device)
    products = _zeros(n, n, device=rows.device)
    for columns, block in _columns(rows):
        mean[columns] = block.mean(0)
        block -= mean[columns]
        squares[columns] = block.square().sum(0)
        _add_products(products, block)
    _mirror(products)
    found = _split_of_gram(products, d) if split else None
    return Gram(n, mean, squares / (n - 1), products.div_(n - 1), found, rows)


def _split_of_gram(products: Tensor, d: int) -> Split:
    """Find the split from the products of all differences, from whatever centre these are."""
    held = _held_out(0, len(products)).to(products.device)
    shift = products[:, ~held].mean(1)  # the mean of the fitted part is the new centre
    products = products - shift - shift.unsqueeze(1) + shift[~held].mean()
    fitted, lengths = products[~held][:, ~held], products.diagonal()[held]
    divisor = len(fitted) - 1
    values, vectors = _leading_eigenpairs(fitted / divisor, divisor)
    along = (products[held][:, ~held] @ vectors).square().mean(0)
    trace, energy = float(fitted.trace()) / divisor, float(lengths.mean())
    return Split(d, values, trace, along / (values * divisor), energy).resolved()


def _add_products(sums: Tensor, block: Tensor) -> None:
    """Add B Bᵀ to sums (k, k), in bands that spare most of the upper triangle; see `_mirror`."""
    for start in range(0, len(sums), BAND):
        end = start + BAND
        sums[start:end, :end] += block[start:end] @ block[:end].mT


def _mirror(sums: Tensor) -> None:
    """Make the upper triangle what the lower is."""
    sums.tril_()
    sums += sums.tril(-1).mT


def _zeros(*shape: int, device: torch.device) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64, device=device)


def _columns(rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows (n, d) as blocks of columns, copies in float64."""
    width = max(1, BLOCK // len(rows))
    for start in range(0, rows.shape[1], width):
        columns = slice(start, start + width)
        yield columns, rows[:, columns].double()


def _centred(rows: Tensor, mean: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for columns, block in _columns(rows):
        yield columns, block.sub_(mean[columns])


def _leading_eigenpairs(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the `rank` greatest eigenvalues, descending and ≥ 0, and their vectors as columns."""
    size = len(matrix)
    if matrix.is_cuda or rank > size // 2:
        values, vectors = torch.linalg.eigh(matrix)
        values, vectors = values[size - rank :], vectors[:, size - rank :]
    else:  # LAPACK finds a few leading pairs three times as fast as all
        found = eigh(matrix.numpy(), subset_by_index=[size - rank, size - 1], check_finite=False)
        values, vectors = map(torch.from_numpy, found)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def _significant(values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Drop eigenpairs of a Gram matrix (n, n) that are rounding."""
    kept = values > values[0] * len(vectors) * torch.finfo(torch.float64).eps
    return values[kept], vectors[:, kept]
