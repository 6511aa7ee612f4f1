"""Three small networks and six images, for tests of attacks."""

from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch.nn.functional import cross_entropy

from noisetransfer.attacks import ATTACKS
from noisetransfer.expectation import Expectation
from noisetransfer.networks import build, run_stack, stack
from noisetransfer.randomness import generator

SHAPE = (3, 16, 18)
BUDGETS = {
    "fgm": {},
    "pgd": {"steps": 6, "step_size": 0.04},
    "auto_pgd": {"steps": 16, "step_size": 0.4, "restarts": 2},
    "square": {"steps": 20, "share": 0.7},
    "random_noise": {},
    "pgd_eot": {
        "passes": 2,
        "mean": "losses",
        "loss": "ce",
        "steps": 6,
        "step_size": 0.25,
        "restarts": 2,
        "random_start": False,
    },
    "auto_pgd_eot": {
        "passes": 2,
        "mean": "logits",
        "loss": "dlr",
        "steps": 8,
        "step_size": 2.0,
        "restarts": 2,
    },
    "square_eot": {"passes": 2, "mean": "losses", "loss": "margin", "steps": 20, "share": 0.7},
}
BUDGETS["rays_eot"] = {"passes": 2, "decision": "mean", "steps": 60}
for _name in ("auto_attack", "auto_attack_l2"):
    BUDGETS[_name] = {"passes": 2, "version": "rand", "steps": 4, "targets": 2, "queries": 10}
for _name in ("pgd", "auto_pgd"):
    BUDGETS[f"{_name}_l2_eot"] = BUDGETS[f"{_name}_eot"]
for _name in set(ATTACKS) - set(BUDGETS):
    BUDGETS[_name] = ATTACKS[_name].budget().model_dump(exclude={"against"})
"""All but `against`, which is for those who make an expectation; else the usual ones."""


@dataclass
class Keyed:
    """Draws of networks and images, each by its number."""

    members: list
    numbers: list

    def per_image(self, number, shape):
        return torch.stack(
            [
                torch.stack([self._rand(shape, s, i, number) for i in self.numbers])
                for s in self.members
            ]
        )

    def common(self, number, count):
        return torch.stack([self._rand((count,), s, number) for s in self.members])

    def _rand(self, shape, *ids):
        return torch.rand(*shape, generator=generator(0, "uniform", *ids))


@dataclass
class Crowd:
    """Networks and images under attack, with their numbers; doubles, so that no rounding turns a sign."""

    networks: list
    images: torch.Tensor
    labels: torch.Tensor
    epsilon: tuple = (0.05, 0.2, 0.1)
    members: list = field(default_factory=lambda: [0, 1, 2])
    numbers: list = field(default_factory=lambda: list(range(6)))
    noise: float = 0.0

    def some(self, members=slice(None), numbers=slice(None)):
        return replace(
            self,
            networks=self.networks[members],
            images=self.images[numbers],
            labels=self.labels[numbers],
            epsilon=self.epsilon[members],
            members=self.members[members],
            numbers=self.numbers[numbers],
        )

    def radii(self, name):
        scale = 10 if "l2" in name else 1
        return scale * torch.tensor(self.epsilon, dtype=torch.float64)

    def shared(self, images):
        return images.expand(len(self.networks), *images.shape[-4:])

    def logits(self, points, number):
        clean = run_stack(self.networks[0], stack(self.networks), points)
        if not self.noise:
            return clean
        ids = [(s, i, number) for s in self.members for i in self.numbers]
        draws = [torch.randn(10, generator=generator(0, "noise", *own)) for own in ids]
        return clean + self.noise * torch.stack(draws).view_as(clean)

    def attacked(self, name, logits=None, **budget):
        """Return the adversarial images and all queries, (points, number)."""
        queries = []

        def asked(points, number):
            queries.append((points.detach(), number))
            return (logits or self.logits)(points, number)

        own = Expectation(lambda points: points, asked) if ATTACKS[name].adaptive else asked
        found = ATTACKS[name].run(
            own,
            self.shared(self.images),
            self.labels,
            epsilon=self.radii(name),
            draws=Keyed(self.members, self.numbers),
            **(budget or BUDGETS[name]),
        )
        return found, queries

    def correct(self, images):
        return self.logits(self.shared(images), 0).argmax(-1) == self.labels

    def loss(self, images):
        logits = self.logits(self.shared(images), 0)
        labels = self.labels.expand(logits.shape[:2])
        return cross_entropy(logits.movedim(-1, 1), labels, reduction="none")


def trained(seed, steps, images, labels):
    network = build("v2", "tanh", SHAPE, 10, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.double().eval().requires_grad_(False)


@cache
def three():
    """Build three networks, the first one less trained, and six images of ten blocky patterns."""
    draws = torch.Generator().manual_seed(0)
    blocks = torch.rand(10, 3, 4, 3, generator=draws)
    patterns = blocks.repeat_interleave(4, -2).repeat_interleave(6, -1)
    labels = torch.randint(0, 10, (70,), generator=draws)
    images = (patterns[labels] + 0.25 * torch.randn(70, *SHAPE, generator=draws)).clamp(0, 1)
    networks = [trained(s, n, images[10:], labels[10:]) for s, n in enumerate((15, 30, 30))]
    return Crowd(networks, images[:6].double(), labels[:6])
