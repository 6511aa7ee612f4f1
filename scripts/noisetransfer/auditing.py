"""The audit of noisy networks: what their robustness is under attackers of more effort and knowledge.

A gain of noise that was measured with one draw a gradient may be the attacker's weakness (Athalye et al.
2018, arXiv 1802.00420). Here it is measured again under the worst of all attacks, image by image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import gammaln

from noisetransfer.attack_order import met_by_all, possible, through_one_draw
from noisetransfer.errors import StudyError
from noisetransfer.intervals import CONFIDENCE
from noisetransfer.modifications import L2, MODIFICATIONS
from noisetransfer.randomness import key
from noisetransfer.regimes import without_noise
from noisetransfer.statistics import CELL
from noisetransfer.uncertainty import interval, p_value, sampled
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    Budget = Mapping[str, Any]

Verdict = Literal["absent", "holds", "shrinks", "open", "vanishes"]

ONE_DRAW, COMPETENT = "one_draw", "competent"
"""Attackers whose result is the worst of several attacks on each image: of the usual ones, which look at one
draw a gradient; of all, the adaptive ones too, but those who know the noise that scores them."""

KEPT = 0.8
"""Share of a gain that must be left for it to hold."""

GONE = 0.2
"""Share of a gain that may be left for it to have vanished, if it is not surely above 0."""

TRIES = 10
"""Draws among which an attacker who may try again needs one error."""

NOISE = [name for name in CELL if name != "target"]
"""Columns that name the noisy networks of a trial."""

_BALL = ["norm", "epsilon"]
_BASE = "_base"
_BUDGET = ["passes", "steps", "restarts", "loss", "against"]


def attacked(records: pd.DataFrame, budgets: Mapping[str, Budget]) -> pd.DataFrame:
    """Return what an audit needs of records: those under attacks.

    Args:
        records: of evaluations: columns `statistics.CELL`, image, label, prediction, draws_correct, K.
        budgets: of every attack among the targets, by its name: {"attack": of the registry, and its budget}.

    Returns:
        columns `NOISE`, attack, norm (of its ball: Linf or L2), epsilon, image, right (of the mean logits),
        single (share of the draws that alone are right), all_right (probability that `TRIES` draws are all
        right).
    """
    parts = records["target"].str.partition("@")
    own = parts[0].isin(list(budgets))
    found = records[own]
    k, right = found["K"].to_numpy(), found["draws_correct"].to_numpy()
    columns = {
        "attack": parts.loc[own, 0],
        "norm": parts.loc[own, 0].map(
            {name: _norm(one["attack"]) for name, one in budgets.items()}
        ),
        "epsilon": parts.loc[own, 2].astype(float),
        "right": found["prediction"] == found["label"],
        "single": right / k,
        "all_right": _all_right(right, k, TRIES),
    }
    kept = ["attack", *_BALL, "image", "right", "single", "all_right"]
    return found.assign(**columns)[[*NOISE, *kept]]


def _norm(attack: str) -> str:
    return "L2" if MODIFICATIONS[attack].strengths is L2 else "Linf"


def _all_right(right: NDArray[Any], k: NDArray[Any], tries: int) -> NDArray[np.floating]:
    """Return C(right, tries) / C(K, tries): without bias for the probability; NaN where K < tries."""
    enough = np.maximum(right, tries)  # below, the answer is 0
    log = gammaln(enough + 1) - gammaln(enough - tries + 1)
    of_all = gammaln(np.maximum(k, tries) + 1) - gammaln(np.maximum(k, tries) - tries + 1)
    share = np.where(right >= tries, np.exp(log - of_all), 0.0)
    return np.where(k >= tries, share, np.nan)


def worst_cases(found: pd.DataFrame, budgets: Mapping[str, Budget]) -> pd.DataFrame:
    """Return the worst of several attacks on each image, as attacks of the names ONE_DRAW and COMPETENT.

    Of attacks that all noises met that were attacked in a ball (`attack_order.met_by_all`).

    Args:
        found: as from `attacked`.
        budgets: as of `attacked`.

    Returns:
        columns as of `found`: the least right, single and all_right of the attacks in a ball; no rows of an
        attacker where there is none of his that all met.
    """
    keys, attackers = [*NOISE, *_BALL, "image"], _attackers(budgets)
    real = found[found["attack"].isin(attackers[COMPETENT])]
    fair = real[met_by_all(real, NOISE, _BALL)]
    parts = []
    for name, attacks in attackers.items():
        own = fair[fair["attack"].isin(attacks)]
        least = own.groupby(keys, observed=True)[["right", "single", "all_right"]].min()
        parts.append(least.reset_index().assign(attack=name))
    return pd.concat(parts, ignore_index=True)[found.columns]


def _attackers(budgets: Mapping[str, Budget]) -> dict[str, set[str]]:
    """Return the attacks that each of the two attackers runs: the second those of the first too."""
    attacks = {name: own for name, own in budgets.items() if possible(own)}
    one_draw = {
        name for name, own in attacks.items() if through_one_draw(own, _norm(own["attack"]) == "L2")
    }
    return {ONE_DRAW: one_draw, COMPETENT: set(attacks)}


def audit_table(found: pd.DataFrame, budgets: Mapping[str, Budget]) -> pd.DataFrame:
    """Average over images: one row per noisy network, trial, attack and ε.

    Args:
        found: as from `attacked`, with `worst_cases` below it.
        budgets: as of `attacked`.

    Returns:
        columns `NOISE`, attack, norm, epsilon, n, accuracy (of the mean logits), single_draw (accuracy of one
        draw), error_in_10 (share of the images of which one of ten draws is wrong), and the budget:
        passes, steps, restarts, loss, against, missing where an attack has no such key, and as text the rest
        of it.
    """
    groups = found.groupby([*NOISE, "attack", *_BALL], observed=True)
    means = groups[["right", "single", "all_right"]].mean()
    table = pd.DataFrame(
        {
            "n": groups.size(),
            "accuracy": means["right"],
            "single_draw": means["single"],
            f"error_in_{TRIES}": 1 - means["all_right"],
        }
    ).reset_index()
    for part in _BUDGET:
        table[part] = table["attack"].map({name: own.get(part) for name, own in budgets.items()})
    table["rest"] = table["attack"].map({name: _rest(own) for name, own in budgets.items()})
    return table


def _rest(budget: Budget) -> str | None:
    """Return the keys of a budget that have no column: "mean=losses, step_size=2.0"."""
    others = sorted(budget.keys() - {"attack", *_BUDGET})
    return ", ".join(f"{key}={budget[key]}" for key in others) or None


def verdicts(
    found: pd.DataFrame,
    budgets: Mapping[str, Budget],
    seed: int,
    over: Iterable[str] = ("none", "identity"),
) -> pd.DataFrame:
    """Say of every noise and ε what a competent attacker leaves of its gain.

    Both attackers run the attacks that the noise and what it is compared with were both tested under. A
    network trained on other images (`variants`) is judged as a noise is: its gain is that over the network
    trained on clean ones.

    Args:
        found: as from `attacked`.
        budgets: as of `attacked`.
        seed: of the study; keys the bootstrap.
        over: arms whose accuracy under the worst attacks is subtracted, of the same trial and image: none of
            the network trained on clean images; identity of the same network at the same τ. Arm none is that
            of `regimes.without_noise`.

    Returns:
        columns study, network, site, source, arm, tau, regime, norm, epsilon, over, n (images), trials,
        gain_one_draw and gain_competent (each with _low, _high, see `uncertainty.interval`), resampled (what
        counts as a sample), verdict (see `verdict`).

    Raises:
        StudyError: if nothing is compared under both kinds of attacks.
    """
    index = [*NOISE, *_BALL, "image"]
    right = found.pivot_table(index=index, columns="attack", values="right", observed=True)
    attackers, rows = _attackers(budgets), right.reset_index()
    judged = [row for arm in over for row in _against(rows, arm, attackers, seed)]
    if not judged:
        raise StudyError(
            "an audit needs an attack through one draw a gradient and an adaptive one at one ε"
        )
    return pd.DataFrame(judged)


def _against(
    rows: pd.DataFrame, reference: str, attackers: Mapping[str, set[str]], seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the verdicts on the gains over one arm."""
    shaped, base, keys = _opposed(rows, reference)
    pairs = shaped.merge(base, on=keys, suffixes=("", _BASE))
    groups = [*(name for name in NOISE if name != "trial"), *_BALL]
    for names, own in pairs.groupby(groups, observed=True):
        both = {name: _in_both(own, attacks) for name, attacks in attackers.items()}
        if both[ONE_DRAW] and both[COMPETENT] - both[ONE_DRAW]:
            gains = own[["trial", "image"]].assign(
                **{f"gain_{name}": _worst_gain(own, attacks) for name, attacks in both.items()}
            )
            told = dict(zip(groups, names, strict=True), over=reference)
            yield told | _judged(gains, key(seed, "audit", reference, *map(str, names)))


def _opposed(rows: pd.DataFrame, reference: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return what has a gain over an arm, that arm, and the columns in which they must agree."""
    clean = rows["network"].map(lambda name: variant(name).base)
    keys = ["study", "against", "site", "within", "trial", *_BALL, "image"]
    if reference == "identity":
        found = rows.assign(against=rows["network"], within=rows["regime"])
        is_base, has_gain = rows["arm"] == "identity", ~rows["arm"].isin(["none", "identity"])
        keys += ["tau"]
    else:
        is_base = (rows["arm"] == "none") & (rows["network"] == clean)
        regimes = rows["regime"].map(without_noise)  # no noise is the same in training and at test
        usual = regimes[is_base].max()  # retrain, if the experiment has it
        found = rows.assign(against=clean, within=regimes.where(rows["network"] == clean, usual))
        has_gain = ~is_base
    attacks = [name for name in rows if name not in [*NOISE, *_BALL, "image"]]
    return found[has_gain], found[is_base][[*keys, *attacks]], keys


def _in_both(pairs: pd.DataFrame, attacks: Iterable[str]) -> set[str]:
    """Return those attacks that both were tested under, on every image."""
    names = [name for name in attacks if name in pairs]
    return {n for n in names if pairs[[n, n + _BASE]].notna().to_numpy().all()}


def _worst_gain(pairs: pd.DataFrame, attacks: Iterable[str]) -> pd.Series[float]:
    """Return by image the accuracy under the worst of the attacks, less that of the reference."""
    names = sorted(attacks)
    base = pairs[[name + _BASE for name in names]].astype(float).min(axis=1)
    return pairs[names].astype(float).min(axis=1) - base


def _judged(gains: pd.DataFrame, seed: int) -> dict[str, Any]:
    trials, sure = gains["trial"].nunique(), {}
    row: dict[str, Any] = {"n": gains["image"].nunique(), "trials": trials}
    for name in (ONE_DRAW, COMPETENT):
        values = gains.pivot(index="trial", columns="image", values=f"gain_{name}").to_numpy()
        low, high = interval(values, "difference", np.random.default_rng(seed))
        row |= {f"gain_{name}": float(values.mean())}
        row |= {f"gain_{name}_low": low, f"gain_{name}_high": high}
        # of few images that differ a bootstrap is too sure; the test is exact
        sure[name] = low > 0 and p_value(values) < 1 - CONFIDENCE
    row["resampled"] = sampled(trials)
    before, after = (row[f"gain_{name}"] for name in (ONE_DRAW, COMPETENT))
    return row | {"verdict": verdict(before, after, sure[ONE_DRAW], sure[COMPETENT])}


def verdict(before: float, after: float, sure_before: bool, sure_after: bool) -> Verdict:
    """Name in one word what is left of a gain.

    Args:
        before: gain under attacks through one draw a gradient.
        after: gain under a competent attacker.
        sure_before: whether the first is above 0: its interval is, and its p-value below .05.
        sure_after: the same of the second.

    Returns:
        absent: there was no sure gain to begin with. Of a gain that is surely left, holds: at least `KEPT` of
        it is; shrinks: less is. Of one that is not, vanishes: at most `GONE` of it is left; open: more is,
        and the trials or images are too few to say.
    """
    if not sure_before:
        return "absent"
    if sure_after:
        return "holds" if after >= KEPT * before else "shrinks"
    return "vanishes" if after <= GONE * before else "open"


def plateau(effort: NDArray[Any], accuracy: NDArray[Any], tolerance: float = 0.01) -> float:
    """Return the least effort after which more lowers the accuracy by no more than a tolerance.

    Args:
        effort: such as the number of draws M, in any order.
        accuracy: under the attack of each effort.
        tolerance: in accuracy.

    Returns:
        an element of effort; NaN where only the greatest would do, so that no plateau was seen.
    """
    order = np.argsort(effort)
    efforts, found = np.asarray(effort)[order], np.asarray(accuracy)[order]
    lowest_after = np.minimum.accumulate(found[::-1])[::-1]
    flat = found - lowest_after <= tolerance
    return float(efforts[flat][0]) if flat[:-1].any() else float("nan")
