"""A covariance with structure, shared by the tests of arms and noise."""

import torch

from noisetransfer.covariance import fit

D = 40
KEYS = (1, "snow@5", 0)


def covariance(rank=None):
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(300, D, generator=draws) @ torch.randn(D, D, generator=draws)
    chunks = [rows * torch.linspace(1, 0.05, D)]
    ridge = {"relative": 1e-3}
    return fit(chunks, n=300, d=D, rank=rank, ridge=ridge, signal_trace=1.0, name="snow@5")[0]


def dense(f):
    low_rank = 0 if f.factor is None else f.factor @ f.factor.mT
    return low_rank + torch.diag(f.variance)
