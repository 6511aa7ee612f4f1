"""What several tests share: correlated rows and their covariance, small networks, a plain training loop."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from noisetransfer.arms import Factors
from noisetransfer.covariance import fit

CPU = torch.device("cpu")
D = 40
KEYS = (1, "snow@5", 0)
NO_RIDGE = {"absolute": 0.0}


class OnGpu(torch.Tensor):
    """Numbers on the CPU that say they are on a GPU."""

    is_cuda = True


def correlated(n, d, seed=0):
    """Rows whose spectrum falls off and whose mean is not 0."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=draws) * torch.logspace(0, -1.5, d)
    return torch.randn(n, d, generator=draws) @ mixing.mT + 0.5


def fitted(rows, rank="full", ridge=NO_RIDGE, *, chunk=17, signal_trace=1.0):
    """Return covariance and diagnostics of a source snow@5."""
    n, d = rows.shape
    chunks = iter(rows.split(chunk))  # one pass only
    return fit(chunks, n=n, d=d, rank=rank, ridge=ridge, signal_trace=signal_trace, name="snow@5")


def covariance(rank="full", n=300, seed=0):
    return fitted(correlated(n, D, seed), rank, {"relative": 1e-3})[0]


def dense(noise):
    """Σ of a covariance or of factors, as a matrix of doubles."""
    if isinstance(noise, Factors):
        factor, variance = noise.factor, noise.variance
    else:
        factor, variance = noise.factor, torch.full_like(noise.diagonal, noise.remainder)
    diagonal = torch.diag(variance.double())
    return diagonal if factor is None else diagonal + factor.double() @ factor.double().mT


def tiny(seed, inputs=12, classes=3):
    """Build a small network of one hidden layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, classes)
        return nn.Sequential(nn.Flatten(), *layers)


def adam(network, batches, learning_rate):
    """Train one network by PyTorch's own loop; return the losses."""
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=learning_rate), []
    for inputs, labels in batches:
        loss = cross_entropy(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_is(parameters, network, atol=2e-6):
    """Compare parameters, name → values, with those of a network."""
    for name, values in network.state_dict().items():
        torch.testing.assert_close(parameters[name], values, rtol=1e-5, atol=atol)
