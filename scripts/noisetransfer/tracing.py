"""Splitting the graph of a network behind a site."""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from noisetransfer.sites import find_site

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def split_graph(
    network: nn.Module, site: str, images: Tensor
) -> tuple[fx.GraphModule, fx.GraphModule, int]:
    """Split the graph of a network into what depends on the output of a site and what does not.

    Parameters, and what depends on them alone, are at hand in both parts; of what depends on the images, the
    prefix hands the tensors that the suffix needs beside h on to it.

    Args:
        network: in evaluation mode; tracing may leave constants in it.
        site: qualified name; it runs once.
        images: (3, C, H, W), examples.

    Returns:
        prefix, which shares its modules with the network; suffix, which has copies; and how many numbers of a
        state pass the site by, as in `cuts.Cut`.

    Raises:
        ValueError: if what passes the site by is not made of float tensors with the batch first and of sizes;
            tracing raises whatever the network's `forward` does.
    """
    graph, here = _traced(network, find_site(network, site))
    *_, output = graph.nodes
    inner = _inner(graph, here)
    needed = _needs([output], inner)
    outside = [node for node in needed if node not in inner and node is not here]
    passing = _sorted([here, *outside], _values(network, [here, *outside], images))
    prefix = _prefix(network, list(passing.tensors))
    suffix = _suffix(network, [node for node in needed if node in inner], passing)
    return prefix, suffix, sum(shape.numel() for shape in [*passing.tensors.values()][1:])


class OneInput(fx.Tracer):
    """Traces a module that is called with one input: other arguments keep their defaults."""

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Make a node for the input alone."""
        del is_module, concrete_args
        return root_fn, [self.root, self.create_proxy("placeholder", "input", (), {})]


class _Around(OneInput):
    """Traces the modules that contain a place; all others, and the place itself, stay whole."""

    def __init__(self, network: nn.Module, place: nn.Module) -> None:
        super().__init__()
        around = (m for m in network.modules() if any(part is place for part in m.modules()))
        self._around = {id(module) for module in around} - {id(place)}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Tell whether a module stays whole."""
        return id(m) not in self._around


def _traced(network: nn.Module, place: nn.Module) -> tuple[fx.Graph, fx.Node]:
    """Return the graph of a network, and the node of a place in it."""
    graph = _Around(network, place).trace(network)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    (here,) = [node for node in calls if network.get_submodule(str(node.target)) is place]
    return graph, here


def _inner(graph: fx.Graph, site: fx.Node) -> set[fx.Node]:
    """Return what the suffix computes: what depends on the site, or on parameters alone."""
    images = next(iter(graph.nodes))
    varying, after = _behind(images), _behind(site)
    return {node for node in graph.nodes if node in after or node not in varying} - {site}


def _behind(start: fx.Node) -> set[fx.Node]:
    """Return a node and all that depend on it."""
    found = {start}
    for node in start.graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _needs(ends: Iterable[fx.Node], inside: Collection[fx.Node]) -> list[fx.Node]:
    """Return nodes and those they need, in order: through those inside, up to the first outside."""
    waiting = list(ends)
    graph, found = waiting[0].graph, set(waiting)
    while waiting:
        new = set(waiting.pop().all_input_nodes) - found
        found |= new
        waiting += [node for node in new if node in inside]
    return [node for node in graph.nodes if node in found]


@dataclass
class _Passing:
    """What a suffix takes from the prefix.

    Attributes:
        tensors: h, then others with their shapes (without the batch); they make the state.
        counts: numbers that are so many times the number of images.
        constants: numbers and sizes that are the same for any number of images.
    """

    tensors: dict[fx.Node, torch.Size] = field(default_factory=dict)
    counts: dict[fx.Node, int] = field(default_factory=dict)
    constants: dict[fx.Node, Any] = field(default_factory=dict)


def _values(network: nn.Module, nodes: Sequence[fx.Node], images: Tensor) -> list[tuple[Any, Any]]:
    """Return the value of each node for two and for three images."""
    graph, at = _copied(_needs(nodes, set(nodes[0].graph.nodes)), {})
    graph.output(tuple(at[node] for node in nodes))
    run = fx.GraphModule(network, graph)
    return list(zip(run(images[:2]), run(images), strict=True))


def _sorted(nodes: Sequence[fx.Node], values: Sequence[tuple[Any, Any]]) -> _Passing:
    """Sort nodes by what they are for two and for three images; the first is the site."""
    passing, dtype = _Passing(), values[0][0].dtype
    for node, (two, three) in zip(nodes, values, strict=True):
        if isinstance(two, Tensor):
            if two.dtype != dtype or [*two.shape[:1], 3, *two.shape[1:]] != [2, *three.shape]:
                raise ValueError(f"{node} passes the site by: {two.dtype} {tuple(two.shape)}")
            passing.tensors[node] = two.shape[1:]
        elif isinstance(two, int) and two and 3 * two == 2 * three:
            passing.counts[node] = two // 2
        elif isinstance(two, int | float | torch.Size) and two == three:
            passing.constants[node] = two
        else:
            raise ValueError(f"{node} passes the site by: {type(two).__name__}")
    return passing


def _prefix(network: nn.Module, ends: Sequence[fx.Node]) -> fx.GraphModule:
    graph, at = _copied(_needs(ends, set(ends[0].graph.nodes)), {})
    found = [at[end] for end in ends]
    graph.output(graph.call_function(joined, tuple(found)) if len(found) > 1 else found[0])
    return fx.GraphModule(network, graph, "Prefix")


def _suffix(network: nn.Module, nodes: Sequence[fx.Node], passing: _Passing) -> fx.GraphModule:
    graph, at = fx.Graph(), dict(passing.constants)
    state = graph.placeholder("state")
    at |= {node: graph.call_function(count, (state, n)) for node, n in passing.counts.items()}
    start = 0
    for node, shape in passing.tensors.items():
        part = (state, start, tuple(shape))
        at[node] = graph.call_function(piece, part) if len(passing.tensors) > 1 else state
        start += shape.numel()
    _copied(nodes, at, graph)
    graph.lint()
    return _out_of_place(copy.deepcopy(fx.GraphModule(network, graph, "Suffix")))


def _copied(
    nodes: Iterable[fx.Node], at: Mapping[fx.Node, Any], graph: fx.Graph | None = None
) -> tuple[fx.Graph, dict[fx.Node, Any]]:
    """Copy nodes into a graph; `at` tells where the values of others are, then of all."""
    graph, at = graph or fx.Graph(), dict(at)
    for node in nodes:
        at[node] = graph.node_copy(node, at.__getitem__)
    return graph, at


def _out_of_place(suffix: fx.GraphModule) -> fx.GraphModule:
    """Let nothing write into the state, nor into a tensor that the networks of a stack share."""
    for module in suffix.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010
    for node in suffix.graph.nodes:
        node.target = _OUT_OF_PLACE.get(node.target) or _method(node)
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
    suffix.recompile()
    return suffix


def _method(node: fx.Node) -> Any:
    """Return what a node calls; of a method such as `add_`, `add`."""
    name = str(node.target).removesuffix("_")
    return name if node.op == "call_method" and hasattr(Tensor, name) else node.target


def joined(*values: Tensor) -> Tensor:
    """Join tensors (B, …) into one (B, n)."""
    return torch.cat([value.flatten(1) for value in values], dim=1)


def piece(state: Tensor, start: int, shape: Sequence[int]) -> Tensor:
    """Take a tensor (B, *shape) out of what `joined` made; a copy."""
    size = torch.Size(shape)
    part: Tensor = state[:, start : start + size.numel()].unflatten(1, size)
    return part.clone(memory_format=torch.contiguous_format)


def count(state: Tensor, times: int) -> int:
    """Return so many times the number of images of a state."""
    return times * len(state)
