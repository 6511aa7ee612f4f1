"""Which attacks are stronger than others by construction. Imports nothing heavy: the Snakefile reads it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Budget = Mapping[str, Any]

ORDER = (
    ("random_noise", "fgm"),
    ("fgm", "pgd"),
    ("pgd", "auto_pgd"),
    ("pgd", "pgd_eot"),
    ("pgd_eot", "auto_pgd_eot"),
    ("pgd", "auto_pgd_eot"),
    ("auto_pgd", "auto_pgd_eot"),
    ("square", "auto_pgd_eot"),
    ("square_eot", "auto_pgd_eot"),
    ("rays_eot", "auto_pgd_eot"),
    ("pgd_l2_eot", "auto_pgd_l2_eot"),
)
"""(weaker, stronger) attacks: at one ε, accuracy under the stronger one is lower, or as low."""

EFFORT = ("passes", "steps", "restarts")
"""Keys of a budget of which more makes an attack no weaker."""


def ordered(budgets: Mapping[str, Budget]) -> Iterator[tuple[str, str]]:
    """Yield the pairs (weaker, stronger) among attacks, by their names.

    A stronger attack is one that stands behind another in `ORDER`, sees the noisy network and has no fewer
    restarts, with the greatest effort of those given; or the same attack with more draws, steps or restarts
    and an else equal budget.

    Args:
        budgets: of every attack, by its name: {"attack": of the registry, and its budget}; that of an
            adaptive attack says what it is `against`.
    """
    open_eyed = {n: b for n, b in budgets.items() if b.get("against", "noisy") == "noisy"}
    for weak, strong in product(open_eyed, repeat=2):
        pair = open_eyed[weak], open_eyed[strong]
        behind = (pair[0]["attack"], pair[1]["attack"]) in ORDER
        rivals = {n: b for n, b in open_eyed.items() if _restarts(b) >= _restarts(pair[0])}
        if _same_but_more(*pair) or (behind and strong in rivals and _greatest(strong, rivals)):
            yield weak, strong


def _effort(budget: Budget) -> tuple[int, ...]:
    return tuple(int(budget.get(key, 1)) for key in EFFORT)


def _restarts(budget: Budget) -> int:
    return int(budget.get("restarts", 1))


def _rest(budget: Budget) -> dict[str, Any]:
    return {key: value for key, value in budget.items() if key not in EFFORT}


def _same_but_more(weaker: Budget, stronger: Budget) -> bool:
    """Tell whether two budgets differ in one kind of effort alone, of which the second has more."""
    pairs = list(zip(_effort(weaker), _effort(stronger), strict=True))
    differing = [less < more for less, more in pairs if less != more]
    return differing == [True] and _rest(weaker) == _rest(stronger)


def _greatest(name: str, budgets: Mapping[str, Budget]) -> bool:
    """Tell whether no other budget of the same attack, else equal, takes more effort."""
    alike = [b for b in budgets.values() if _rest(b) == _rest(budgets[name])]
    return _effort(budgets[name]) == max(map(_effort, alike))
