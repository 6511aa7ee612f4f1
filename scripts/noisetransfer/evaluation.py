"""Noisy prediction of stacks of networks under every target, one record per image."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisetransfer.arms import Factors
from noisetransfer.attacks import ATTACKS
from noisetransfer.devices import COPIES, ROOM, halving, images_at_once, stack_size
from noisetransfer.expectation import Against, Expectation
from noisetransfer.linear import linear_map, logit_covariance, root
from noisetransfer.networks import Stack, affine_head, pixels, run_shared, run_stack, without_bias
from noisetransfer.noise import NoiseSampler, embedded, noisy_pixels
from noisetransfer.progress import progress
from noisetransfer.randomness import Uniforms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STATES = 6
"""Activations at the site that testing one network takes: they, noise, draws, what the next layers make."""


@dataclass(frozen=True)
class NoisyNetworks:
    """The R rows (arms of sources) of one trial: one prefix, R suffixes, R noises.

    Attributes:
        prefix: of the base network: images → h(x), or what holds it first, as of `cuts.Cut`.
        suffix: gives the shape of the suffixes.
        parameters: of the suffixes, name → (R, …); None: `suffix` is that of all rows.
        sampler: noise of R rows × 1 trial.
        input_noise: σ of the Gaussian noise that the base network sees on its images.
        units: outputs of all layers for one image, as from `networks.footprint`.
    """

    prefix: nn.Module
    suffix: nn.Module
    parameters: Stack | None
    sampler: NoiseSampler
    input_noise: float = 0.0
    units: int = 0

    def at_logits(self, shape: torch.Size) -> NoisyNetworks:
        """Return the same networks with their noise at the logits, where one affine suffix serves all rows.

        There ξ ~ N(0, Σ) at the site is exactly N(0, A Σ Aᵀ) in the logits; a draw costs next to nothing.

        Args:
            shape: of one activation at the site.
        """
        linear = None if self.parameters else linear_map(self.suffix, shape)
        if linear is None or self.sampler.silent:
            return self
        roots = [
            root(logit_covariance(linear, None if f is None else f[0].float(), scale[0].square()))
            for f, scale in zip(self.sampler.factors, self.sampler.scale, strict=True)
        ]
        stack = [[Factors(own.float(), torch.zeros_like(own[0]).float())] for own in roots]
        sampler = self.sampler
        noise = NoiseSampler.of(stack, self.device, seed=sampler.seed, trials=sampler.trials)
        whole = nn.Sequential(self.prefix, self.suffix)
        return replace(self, prefix=whole, suffix=nn.Identity(), sampler=noise)

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.sampler.device

    @cached_property
    def deterministic(self) -> bool:
        """Whether every pass gives the same logits."""
        return self.sampler.silent and not self.input_noise

    def of(self, rows: Sequence[int]) -> NoisyNetworks:
        """Take the suffixes of some rows, in this order; the noise stays that of all rows."""
        if self.parameters is None or list(rows) == list(range(len(self.sampler.scale))):
            return self
        chosen = torch.tensor(rows, device=self.device)
        return replace(self, parameters={n: p[chosen] for n, p in self.parameters.items()})

    def only(self, rows: Sequence[int]) -> NoisyNetworks:
        """Take suffixes and noise of some rows, in this order."""
        return replace(self.of(rows), sampler=self.sampler.rows(rows))

    def noise(self, purpose: str) -> Callable[[int, Tensor], Tensor]:
        """Return draws for a purpose: (number, original indices (B,)) → ξ (R, B, d)."""
        keys, silent, scale = self.sampler.keys(purpose), self.sampler.silent, self.sampler.scale

        def draw(number: int, images: Tensor) -> Tensor:
            if silent:
                return scale.expand(-1, len(images), -1)
            return self.sampler.draw(keys, _whole(number, images), images)[:, 0]

        return draw

    def seen(self, purpose: str) -> Callable[[Tensor, int, Tensor], Tensor]:
        """Return the images as the networks see them: (images, number, indices) → images + σ z."""
        keys = self.sampler.keys(f"input {purpose}")

        def see(images: Tensor, number: int, indices: Tensor) -> Tensor:
            if not self.input_noise:
                return images
            draw = _whole(number, indices)
            return noisy_pixels(images, self.input_noise, keys, draw, indices).reshape(images.shape)

        return see

    def logits(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return logits (R, B, classes) of images (R, B, C, H, W) under one draw of the noise (R, B, d)."""
        hidden = self.hidden(images)
        noisy = hidden + embedded(noise, hidden.shape[2:])
        return self._run(self.suffix, self.parameters, noisy)

    def hidden(self, images: Tensor) -> Tensor:
        """Return the state at the cut, h(x) where it is clean, of images (…, C, H, W)."""
        return self.prefix(images.flatten(0, -4)).unflatten(0, images.shape[:-3])  # type: ignore[no-any-return]

    @cached_property
    def _parts(self) -> tuple[nn.Module | None, nn.Module]:
        return affine_head(self.suffix)

    def head(self, images: Tensor) -> Tensor:
        """Return A(h(x)), (R or 1, B, …): of shared images (B, C, H, W), or of (R, B, C, H, W)."""
        hidden, (head, _) = self.hidden(images), self._parts
        shared = images.dim() == 4
        if head is not None and shared and self.parameters is not None:
            return run_shared(head, self.parameters, hidden)
        own = hidden[None] if shared else hidden
        return own if head is None else self._run(head, self.parameters, own)

    def head_of_noise(self, noise: Tensor, shape: torch.Size) -> Tensor:
        """Return A(ξ) − A(0), (R, B, …), of noise (R, B, d) on states of a shape."""
        head, state = self._parts[0], embedded(noise, shape)
        if head is None:
            return state
        if self.parameters is None:
            linear = without_bias(dict(head.named_parameters()))
            parts = functional_call(head, linear, (state.flatten(0, 1),))
            return parts.unflatten(0, noise.shape[:2])  # type: ignore[no-any-return]
        return run_stack(head, without_bias(self.parameters), state)

    def tail(self, values: Tensor) -> Tensor:
        """Return logits (R, B, classes) of head values (R, B, …)."""
        return self._run(self._parts[1], self.parameters, values)

    def _run(self, module: nn.Module, parameters: Stack | None, values: Tensor) -> Tensor:
        """Run each row's network on its values (R, B, …)."""
        if parameters is not None:
            return run_stack(module, parameters, values)
        return module(values.flatten(0, 1)).unflatten(0, values.shape[:2])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class View:
    """What some rows are tested on: images shared by the rows (B, C, H, W), or each row's own (R, B, …)."""

    rows: Sequence[int]
    images: Tensor


@dataclass(frozen=True)
class Scores:
    """Predictions of R rows on B images: of the mean logits, and how many draws alone were right."""

    prediction: Tensor
    draws_correct: Tensor


@torch.no_grad()
def score(
    networks: NoisyNetworks,
    views: Mapping[str, View],
    labels: Tensor,
    indices: Tensor,
    *,
    passes: int,
) -> dict[str, Scores]:
    """Score a batch under several targets with K passes that all targets share.

    The affine head is applied once to the activations and once to each noise draw (A(h + ξ) = A(h) + A(ξ)).
    Networks without any noise take one pass for K.

    Args:
        networks: the stack.
        views: target → rows tested under it, and its images.
        labels: (B,).
        indices: original indices of the images, (B,): they key the noise.
        passes: K.

    Returns:
        target → scores, each (R, B) of the view's rows.
    """
    own = {target: networks.of(view.rows) for target, view in views.items()}
    see, draw = networks.seen("evaluation noise"), networks.noise("evaluation noise")
    shape = networks.prefix(next(iter(views.values())).images.flatten(0, -4)[:1]).shape[1:]
    heads: dict[str, Tensor] = {}
    logits = defaultdict(list)
    for number in range(1 if networks.deterministic else passes):
        noise = networks.head_of_noise(draw(number, indices), shape)
        for target, view in views.items():
            if networks.input_noise or target not in heads:
                heads[target] = own[target].head(see(view.images, number, indices))
            logits[target].append(own[target].tail(heads[target] + _of_rows(noise, view.rows)))
    return {target: _scores(torch.stack(found), labels, passes) for target, found in logits.items()}


def _of_rows(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Take some rows of values (R, …), in this order; all of them without a copy."""
    return values if list(rows) == list(range(len(values))) else values[rows]


def _scores(logits: Tensor, labels: Tensor, passes: int) -> Scores:
    """Score logits (draws, R, B, classes)."""
    right = (logits.argmax(-1) == labels).sum(0)
    return Scores(logits.sum(0).argmax(-1), right * (passes // len(logits)))


def attacked(
    networks: NoisyNetworks,
    images: Tensor,
    labels: Tensor,
    indices: Tensor,
    *,
    attack: str,
    rows: Sequence[int],
    epsilons: Sequence[float],
    budget: Mapping[str, Any],
    passes: int = 10,
) -> Tensor:
    """Craft white-box adversarial images against rows of the stack, one noise draw per query.

    Adaptive attacks average over draws, see as much as `against` of their budget says.

    Args:
        networks: the stack.
        images: clean, in [0, 1], (B, C, H, W).
        labels: (B,).
        indices: original indices, (B,).
        attack: name in `ATTACKS`.
        rows: the attacked rows, P of them; a row may stand several times.
        epsilons: ε of each of the P.
        budget: of the attack.
        passes: K of the scoring, whose draws an attack against `known_seed` sees.

    Returns:
        (P, B, C, H, W)
    """
    if ATTACKS[attack].alone and len(rows) > 1:
        one = partial(attacked, networks, images, labels, indices, attack=attack)
        each = zip(rows, epsilons, strict=True)
        return torch.cat(
            [one(rows=[r], epsilons=[e], budget=budget, passes=passes) for r, e in each]
        )
    own = networks.of(rows)
    see, draw = networks.seen("attack noise"), networks.noise("attack noise")

    def logits(points: Tensor, query: int) -> Tensor:
        noise = draw(query, indices)[rows]
        return own.logits(see(points, query, indices), noise)

    options = dict(budget)
    against = options.pop("against", None)
    keys = networks.sampler.keys("attack").expand(len(rows))
    return ATTACKS[attack].run(
        expectation(networks, images, indices, rows, against, passes) if against else logits,
        images.expand(len(rows), *images.shape),
        labels,
        epsilon=torch.tensor(epsilons, device=images.device),
        draws=Uniforms(keys, indices, _whole(0, indices)),
        **options,
    )


def expectation(
    networks: NoisyNetworks,
    images: Tensor,
    indices: Tensor,
    rows: Sequence[int],
    against: Against,
    passes: int,
) -> Expectation:
    """Return what an attacker sees of rows of the stack: all draws share what comes before the noise.

    Noise on the images comes before everything: then each draw runs through the whole network.

    Args:
        networks: the stack.
        images: clean, (B, C, H, W).
        indices: their original indices, (B,).
        rows: the attacked rows; a row may stand several times.
        against: noisy: the rows with draws of the attacker's own; known_seed: with those that score them;
            noise_off: the rows without any noise; base: the network whose prefix they share, without noise.
        passes: K of the scoring.
    """
    if against == "base":
        networks = replace(networks, parameters=None)
    own = networks.of(rows)
    if against in ("base", "noise_off") or networks.only(sorted({*rows})).deterministic:
        return Expectation.steady(lambda points, _: own.tail(own.head(points)))
    known = against == "known_seed"
    purpose = "evaluation noise" if known else "attack noise"
    see, noise = networks.seen(purpose), _head_noise(networks, images, indices, rows, purpose)

    def whole(points: Tensor, number: int) -> Tensor:
        return own.tail(own.head(see(points, number, indices)) + noise(number))

    if networks.input_noise:
        return Expectation(lambda points: points, whole, passes if known else None)
    return Expectation(
        own.head, lambda values, number: own.tail(values + noise(number)), passes if known else None
    )


def _head_noise(
    networks: NoisyNetworks, images: Tensor, indices: Tensor, rows: Sequence[int], purpose: str
) -> Callable[[int], Tensor]:
    """Return draws of the noise behind the affine head: number → A(ξ) − A(0), (P, B, …), of rows alone."""
    unique = sorted({*rows})
    chosen, places = networks.only(unique), [unique.index(row) for row in rows]
    draw = chosen.noise(purpose)
    with torch.no_grad():
        shape = networks.prefix(images[:1]).shape[1:]

    @lru_cache(maxsize=1)  # points that are compared under one draw share it
    @torch.no_grad()
    def noise(number: int) -> Tensor:
        return chosen.head_of_noise(draw(number, indices), shape)[places]

    return noise


@dataclass(frozen=True)
class Test:
    """What a stack is tested under.

    Attributes:
        rows: (source, arm) of each row.
        targets: target → rows tested under it.
        clean: images, (n, C, H, W), uint8 or float in [0, 1].
        modified: natural target → images as `clean`.
        attacks: target → {"attack": name, "epsilon": ε, and its budget}.
        labels: (n,).
        indices: original indices, (n,).
        passes: K.
    """

    rows: Sequence[tuple[str, str]]
    targets: Mapping[str, Sequence[int]]
    clean: Tensor
    modified: Mapping[str, Tensor]
    attacks: Mapping[str, Mapping[str, Any]]
    labels: Tensor
    indices: Tensor
    passes: int


def evaluate(networks: NoisyNetworks, test: Test, batch_size: int | None = None) -> pd.DataFrame:
    """Test the rows of one trial under every target.

    Args:
        networks: the stack.
        test: what it is tested under.
        batch_size: images a batch, by default what suits the device; results do not depend on it.

    Returns:
        one row per target × row × image: source, arm, target, image, label, prediction, draws_correct, K.
    """
    states = STATES * len(test.rows) + sum(len(rows) for rows in test.targets.values())
    tested = 4 * states * networks.sampler.scale.shape[-1]
    attacked = 4 * (COPIES if test.attacks else 1) * networks.units
    size = batch_size or images_at_once(networks.device, max(tested, attacked))
    return halving(lambda size: _evaluate(networks, test, size), size, "images a batch")


def _evaluate(networks: NoisyNetworks, test: Test, size: int) -> pd.DataFrame:
    """Test batch by batch of a size."""
    device, frames = networks.device, []
    for start in progress(range(0, len(test.labels), size), "testing"):
        batch = slice(start, start + size)
        labels, indices = test.labels[batch].to(device), test.indices[batch].to(device)
        views = {
            target: View(test.targets[target], pixels(images[batch].to(device)))
            for target, images in test.modified.items()
        }
        clean = pixels(test.clean[batch].to(device))
        views |= _attack_views(networks, test, clean, labels, indices)
        scores = score(networks, views, labels, indices, passes=test.passes)
        frames += [_records(test, target, found, batch) for target, found in scores.items()]
    return pd.concat(frames, ignore_index=True)


def _attack_views(
    networks: NoisyNetworks, test: Test, images: Tensor, labels: Tensor, indices: Tensor
) -> dict[str, View]:
    """Craft the images of all attacks: every strength of an attack against every row, as stacks."""
    bytes_each = max(1, 4 * COPIES * len(labels) * networks.units)
    limit = stack_size(networks.device, bytes_each)
    limit = max(1, min(limit, ROOM[networks.device.type] // bytes_each))
    jobs = [(target, row) for target in test.attacks for row in test.targets[target]]
    crafted = defaultdict(list)
    for part in _alike(jobs, test.attacks, limit):
        budget = {**test.attacks[part[0][0]]}
        attack, _ = budget.pop("attack"), budget.pop("epsilon")
        found = attacked(
            networks,
            images,
            labels,
            indices,
            attack=attack,
            rows=[row for _, row in part],
            epsilons=[test.attacks[target]["epsilon"] for target, _ in part],
            budget=budget,
            passes=test.passes,
        )
        for (target, _), own in zip(part, found, strict=True):
            crafted[target].append(own)
    return {t: View(test.targets[t], torch.stack(found)) for t, found in crafted.items()}


def _alike(
    jobs: Sequence[tuple[str, int]], attacks: Mapping[str, Mapping[str, Any]], limit: int
) -> list[list[tuple[str, int]]]:
    """Group (target, row) by all but ε of the attack, in stacks of at most `limit`."""
    groups = defaultdict(list)
    for target, row in jobs:
        groups[repr({**attacks[target], "epsilon": None})].append((target, row))
    return [group[i : i + limit] for group in groups.values() for i in range(0, len(group), limit)]


def _records(test: Test, target: str, scores: Scores, batch: slice) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "source": test.rows[row][0],
                "arm": test.rows[row][1],
                "target": target,
                "image": test.indices[batch].numpy(),
                "label": test.labels[batch].numpy(),
                "prediction": scores.prediction[i].cpu().numpy(),
                "draws_correct": scores.draws_correct[i].cpu().numpy(),
                "K": test.passes,
            }
        )
        for i, row in enumerate(test.targets[target])
    ]
    return pd.concat(frames, ignore_index=True)


def _whole(number: int, like: Tensor) -> Tensor:
    """Return a 0-d whole number on the device of a tensor."""
    return torch.full((), number, device=like.device)
