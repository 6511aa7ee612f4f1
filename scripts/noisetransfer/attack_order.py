"""What budgets say of attacks: how many draws they look at, and which are the stronger by construction.

And which attacks noises may be compared by. Imports nothing heavy: the Snakefile reads it.
"""

from __future__ import annotations

from itertools import product
from operator import le
from typing import TYPE_CHECKING, Any, NamedTuple

from noisetransfer.modifications import FLOOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    Budget = Mapping[str, Any]

ORDER = (
    ("random_noise", "fgm"),
    ("random_noise", "pgd"),
    ("random_noise", "auto_pgd"),
    ("random_noise", "pgd_eot"),
    ("random_noise", "auto_pgd_eot"),
    ("fgm", "pgd"),
    ("fgm", "auto_pgd"),
    ("fgm", "pgd_eot"),
    ("fgm", "auto_pgd_eot"),
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
"""(weaker, stronger) attacks: at one ε, accuracy under the stronger one is lower, or as low.

With two pairs (a, b) and (b, c) it has (a, c), for studies without b.
"""

SEARCHES = ("square", "square_eot", "rays_eot")
"""Attacks without gradients."""

EFFORT = ("passes", "steps", "restarts")
"""Keys of a budget of which more makes an attack no weaker."""


class Pair(NamedTuple):
    """Two attacks by their names, of which one is the stronger by construction.

    Attributes:
        weak: the one that may leave more images right.
        strong: the one that may not.
        required: whether a study fails where it does: of adaptive attacks with more effort than the same
            attack, or on the usual loss with no fewer draws and steps. Others may well do less.
    """

    weak: str
    strong: str
    required: bool


def ordered(budgets: Mapping[str, Budget]) -> Iterator[Pair]:
    """Yield the pairs (weaker, stronger) among attacks.

    A stronger attack is one that stands behind another in `ORDER`, sees the noisy network and has no fewer
    restarts, unless another of these, with an else equal budget, takes more of an effort and less of none; or
    the same attack with more draws, steps or restarts and an else equal budget.

    Args:
        budgets: of every attack, by its name: {"attack": of the registry, and its budget}; that of an
            adaptive attack says what it is `against`.
    """
    open_eyed = {n: b for n, b in budgets.items() if b.get("against", "noisy") == "noisy"}
    for weak, strong in product(open_eyed, repeat=2):
        pair = open_eyed[weak], open_eyed[strong]
        behind = (pair[0]["attack"], pair[1]["attack"]) in ORDER
        rivals = {n: b for n, b in open_eyed.items() if _restarts(b) >= _restarts(pair[0])}
        more = _same_but_more(*pair)
        if more or (behind and strong in rivals and _unsurpassed(strong, rivals)):
            adaptive = "against" in pair[1]
            yield Pair(weak, strong, adaptive and (more or (_usual(pair[1]) and _no_less(*pair))))


def through_one_draw(budget: Budget, l2: bool) -> bool:
    """Tell whether an attack looks at one draw of the noise a gradient, as attacks usually do.

    Args:
        budget: of an attack, as of `ordered`.
        l2: whether its ball is one of L2. No usual attack here is, so that adaptive ones of one draw count.
    """
    if "against" not in budget:
        return True
    return l2 and budget["against"] == "noisy" and budget["passes"] == 1


def averages(budget: Budget) -> bool:
    """Tell whether an attack sees the noise as it is, and more than one draw of it."""
    return budget.get("against") == "noisy" and budget["passes"] > 1


def possible(budget: Budget) -> bool:
    """Tell whether an attack is one, not noise at random, and does not know the noise that will score it."""
    return budget["attack"] != FLOOR and budget.get("against") != "known_seed"


def met_by_all(
    attacked: pd.DataFrame, noise: Sequence[str], ball: Sequence[str]
) -> pd.Series[bool]:
    """Tell of which rows all noises that were attacked in the ball met the attack.

    The worst of several attacks is lower the more they are, by chance alone.

    Args:
        attacked: a row or more for each noise and attack that it met: columns `noise`, `ball`, attack.
        noise: columns that name a noise.
        ball: columns that name a ball around images: norm and ε.
    """
    noises = attacked.groupby([*noise], observed=True).ngroup()
    there, by_attack = (
        noises.groupby([attacked[name] for name in names]).transform("nunique")
        for names in (ball, [*ball, "attack"])
    )
    return by_attack == there


def _effort(budget: Budget) -> tuple[int, ...]:
    return tuple(int(budget.get(key, 1)) for key in EFFORT)


def _restarts(budget: Budget) -> int:
    return int(budget.get("restarts", 1))


def _rest(budget: Budget) -> dict[str, Any]:
    return {key: value for key, value in budget.items() if key not in EFFORT}


def _usual(budget: Budget) -> bool:
    return (budget.get("loss", "ce"), budget.get("mean", "losses")) == ("ce", "losses")


def _no_less(weaker: Budget, stronger: Budget) -> bool:
    """Tell whether the second has no fewer draws and steps.

    Steps of searches are not steps of gradients. FGM's one reaches as far as several: never no fewer.
    """
    if weaker["attack"] == "fgm":
        return False
    keys = ("passes",) if weaker["attack"] in SEARCHES else ("passes", "steps")
    return all(weaker.get(key, 1) <= stronger.get(key, 1) for key in keys)


def _same_but_more(weaker: Budget, stronger: Budget) -> bool:
    """Tell whether two budgets differ in one kind of effort alone, of which the second has more."""
    pairs = list(zip(_effort(weaker), _effort(stronger), strict=True))
    differing = [less < more for less, more in pairs if less != more]
    return differing == [True] and _rest(weaker) == _rest(stronger)


def _unsurpassed(name: str, budgets: Mapping[str, Budget]) -> bool:
    """Tell whether no budget of the same attack, else equal, takes more of an effort and less of none."""
    own, rest = _effort(budgets[name]), _rest(budgets[name])
    others = {_effort(b) for b in budgets.values() if _rest(b) == rest} - {own}
    return not any(all(map(le, own, other)) for other in others)
