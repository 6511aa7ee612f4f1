"""Suffixes that are linear: the exact covariance that noise at the site has in the logits."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from noisetransfer.tracing import OneInput

CHUNK = 2**23
"""Numbers in float64 that go through a suffix at once: 64 MiB."""

_CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d
_POOLS = nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d
_ADAPTIVE_POOLS = nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d
_SHAPES = nn.Identity, nn.Flatten, nn.Unflatten, nn.ZeroPad2d
_AFFINE = {nn.Linear, *_CONVOLUTIONS, *_POOLS, *_ADAPTIVE_POOLS, *_SHAPES}
_DROPOUTS = {nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d}
_BATCH_NORMS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}

# what a graph may call, by name: functions of torch, of operator, and methods of tensors
_SUMS = {"add", "sub", "neg", "cat"}
_OF_FIRST = {
    "flatten",
    "unflatten",
    "reshape",
    "view",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
}
_OF_FIRST |= {
    "contiguous",
    "getitem",
    "mean",
    "sum",
    "truediv",
    "div",
    "linear",
    "conv2d",
    "dropout",
}
_OF_FIRST |= {"avg_pool2d", "adaptive_avg_pool2d"}


@dataclass(frozen=True)
class LinearMap:
    """A of an affine suffix: logits = A h + b.

    Attributes:
        suffix: in evaluation mode, float64, frozen.
        shape: of one activation h, d numbers.
    """

    suffix: nn.Module
    shape: torch.Size

    @torch.no_grad()
    def forward(self, values: Tensor) -> Tensor:
        """Return A ξ, (n, c) in float64, of ξ (n, d)."""
        rows = values.double().unflatten(-1, self.shape)
        logits: Tensor = self.suffix(rows) - self.suffix(torch.zeros_like(rows[:1]))
        return logits

    def backward(self, values: Tensor) -> Tensor:
        """Return Aᵀ y, (n, d) in float64, of y (n, c)."""
        with torch.enable_grad():
            size = len(values), *self.shape
            rows = torch.zeros(size, dtype=torch.float64, device=values.device, requires_grad=True)
            (gradient,) = torch.autograd.grad(self.suffix(rows), rows, values.double())
        return gradient.flatten(1)


def linear_map(suffix: nn.Module, shape: torch.Size) -> LinearMap | None:
    """Return the linear part of a suffix, or None where it is not known to be affine.

    Affine is what consists of convolutions, linear layers, average pooling, sums, shapes, and, in evaluation
    mode, BatchNorm and dropout.

    Args:
        suffix: of a clean cut: h (B, *shape) → logits (B, c); it is not changed.
        shape: of one activation.
    """
    if not _affine(suffix):
        return None
    return LinearMap(copy.deepcopy(suffix).double().requires_grad_(False), shape)


def logit_covariance(linear: LinearMap, factor: Tensor | None, variance: Tensor) -> Tensor:
    """Return the covariance of A ξ, ξ ~ N(0, F Fᵀ + diag(v)): A F (A F)ᵀ + A diag(v) Aᵀ.

    No d × d matrix exists: columns of F, then rows of A, go through the suffix in chunks.

    Args:
        linear: of the suffix.
        factor: F, (d, r), or None.
        variance: v, (d,), on the device of the suffix.

    Returns:
        (c, c), symmetric, float64.
    """
    chunk = max(1, CHUNK // len(variance))
    classes = linear.forward(variance.new_zeros(1, len(variance))).shape[1]
    unit = torch.eye(classes, dtype=torch.float64, device=variance.device)
    covariance = torch.zeros_like(unit)
    if factor is not None:
        image = torch.cat([linear.forward(columns) for columns in factor.mT.split(chunk)])
        covariance += image.mT @ image
    if variance.any():
        rows = (linear.backward(part) * variance for part in unit.split(chunk))
        covariance += torch.cat([linear.forward(part) for part in rows])
    return (covariance + covariance.mT) / 2


def root(covariance: Tensor) -> Tensor:
    """Return the symmetric R with R R = Σ, for draws R z, z ~ N(0, I); Σ, (c, c), may be singular.

    Being symmetric, it lets noises that are alike share their draws: the same z moves them alike.
    """
    values, vectors = torch.linalg.eigh(covariance)
    roots: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    return roots


def _affine(module: nn.Module) -> bool:
    kind = type(module)  # exactly: subclasses may do anything
    if kind in _BATCH_NORMS:
        return not module.training and module.running_mean is not None
    if kind in _DROPOUTS:
        return not module.training
    return kind in _AFFINE or _affine_graph(module)


def _affine_graph(module: nn.Module) -> bool:
    """Tell whether all that a module does to its input is affine."""
    graph = _graph(module)
    varying: set[fx.Node] = set()
    for node in graph.nodes if graph else ():
        if node.op == "placeholder" or _depends(node, varying):
            if not _affine_node(module, node, varying):
                return False
            varying.add(node)
    return bool(varying)


def _graph(module: nn.Module) -> fx.Graph | None:
    if isinstance(module, fx.GraphModule):
        own: fx.Graph = module.graph
        return own
    try:
        return OneInput().trace(copy.deepcopy(module))
    except Exception:  # a forward may fail in any way on what is no number yet
        return None


def _depends(node: fx.Node, varying: set[fx.Node]) -> bool:
    """Tell whether a node depends on more of the input than its size."""
    size = node.target == "size" or (node.target is getattr and node.args[1] == "shape")
    return not size and not varying.isdisjoint(node.all_input_nodes)


def _affine_node(module: nn.Module, node: fx.Node, varying: set[fx.Node]) -> bool:
    """Tell whether a node is affine in those that vary."""
    if node.op in ("placeholder", "output"):
        return node.op == "placeholder" or isinstance(node.args[0], fx.Node)
    if node.op == "call_module":
        return _first_alone(node, varying) and _affine(module.get_submodule(str(node.target)))
    name = _name(node)
    if name == "mul":
        return sum(isinstance(arg, fx.Node) and arg in varying for arg in node.args) == 1
    if name == "dropout" and node.kwargs.get("training") is not False:
        return False
    return name in _SUMS or (name in _OF_FIRST and _first_alone(node, varying))


def _first_alone(node: fx.Node, varying: set[fx.Node]) -> bool:
    """Tell whether the first argument varies, and no other."""
    if not node.args:  # by keywords alone
        return False
    first, *others = node.args
    again = any(other is first for other in (*others, *node.kwargs.values()))
    return not again and varying.intersection(node.all_input_nodes) == {first}


def _name(node: fx.Node) -> str:
    """Return the name of the function or method of PyTorch, or of the operator, that a node calls."""
    if isinstance(node.target, str):
        return node.target
    ours = node.target.__module__.partition(".")[0] in ("torch", "_operator")
    return node.target.__name__ if ours else ""
