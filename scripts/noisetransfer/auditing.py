"""The audit of noisy networks: what their robustness is under attackers of more effort and knowledge.

A gain of noise that was measured with one draw a gradient may be the attacker's weakness (Athalye et al.
2018, arXiv 1802.00420). Here it is measured again under the worst of all attacks, image by image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import gammaln

from noisetransfer.errors import StudyError
from noisetransfer.modifications import FLOOR
from noisetransfer.randomness import key
from noisetransfer.regimes import without_noise
from noisetransfer.statistics import CELL
from noisetransfer.uncertainty import interval, sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Budget = Mapping[str, Any]

Verdict = Literal["absent", "holds", "shrinks", "vanishes"]

ONE_DRAW, COMPETENT = "one_draw", "competent"
"""Attackers whose result is the worst of several attacks on each image: of those that look at one draw a
gradient; of all but those who know the noise that scores them."""

KEPT = 0.8
"""Share of a gain that must be left for it to hold."""

TRIES = 10
"""Draws among which an attacker who may try again needs one error."""

NOISE = [name for name in CELL if name != "target"]
"""Columns that name the noisy networks of a trial."""

_BUDGET = ["passes", "steps", "restarts", "loss", "against"]


def attacked(records: pd.DataFrame, budgets: Mapping[str, Budget]) -> pd.DataFrame:
    """Return what an audit needs of records: those under attacks.

    Args:
        records: of evaluations: columns `statistics.CELL`, image, label, prediction, draws_correct, K.
        budgets: of every attack among the targets, by its name: {"attack": of the registry, and its budget}.

    Returns:
        columns `NOISE`, attack, epsilon, image, right (of the mean logits), single (share of the draws that
        alone are right), all_right (probability that `TRIES` draws are all right).
    """
    parts = records["target"].str.partition("@")
    own = parts[0].isin(list(budgets))
    found = records[own]
    k, right = found["K"].to_numpy(), found["draws_correct"].to_numpy()
    columns = {
        "attack": parts.loc[own, 0],
        "epsilon": parts.loc[own, 2].astype(float),
        "right": found["prediction"] == found["label"],
        "single": right / k,
        "all_right": _all_right(right, k, TRIES),
    }
    kept = ["attack", "epsilon", "image", "right", "single", "all_right"]
    return found.assign(**columns)[[*NOISE, *kept]]


def _all_right(right: NDArray[Any], k: NDArray[Any], tries: int) -> NDArray[np.floating]:
    """Return C(right, tries) / C(K, tries): without bias for the probability; NaN where K < tries."""
    enough = np.maximum(right, tries)  # below, the answer is 0
    log = gammaln(enough + 1) - gammaln(enough - tries + 1)
    of_all = gammaln(np.maximum(k, tries) + 1) - gammaln(np.maximum(k, tries) - tries + 1)
    share = np.where(right >= tries, np.exp(log - of_all), 0.0)
    return np.where(k >= tries, share, np.nan)


def worst_cases(found: pd.DataFrame, budgets: Mapping[str, Budget]) -> pd.DataFrame:
    """Return the worst of several attacks on each image, as attacks of the names ONE_DRAW and COMPETENT.

    Args:
        found: as from `attacked`.
        budgets: as of `attacked`.

    Returns:
        columns `NOISE`, attack, epsilon, image, right, single, all_right: the least of each.
    """
    groups = {ONE_DRAW: _one_draw(budgets), COMPETENT: _competent(budgets)}
    keys = [*NOISE, "epsilon", "image"]
    parts = []
    for name, attacks in groups.items():
        own = found[found["attack"].isin(attacks)]
        least = own.groupby(keys, observed=True)[["right", "single", "all_right"]].min()
        parts.append(least.reset_index().assign(attack=name))
    return pd.concat(parts, ignore_index=True)[found.columns]


def _one_draw(budgets: Mapping[str, Budget]) -> set[str]:
    adaptive = {name for name, own in budgets.items() if "against" in own}
    return {name for name, own in budgets.items() if own["attack"] != FLOOR} - adaptive


def _competent(budgets: Mapping[str, Budget]) -> set[str]:
    foreseeing = {name for name, own in budgets.items() if own.get("against") == "known_seed"}
    return {name for name, own in budgets.items() if own["attack"] != FLOOR} - foreseeing


def audit_table(found: pd.DataFrame, budgets: Mapping[str, Budget]) -> pd.DataFrame:
    """Average over images: one row per noisy network, trial, attack and ε.

    Args:
        found: as from `attacked`, with `worst_cases` below it.
        budgets: as of `attacked`.

    Returns:
        columns `NOISE`, attack, epsilon, n, accuracy (of the mean logits), single_draw (accuracy of one
        draw), error_in_10 (share of the images of which one of ten draws is wrong), and the budget:
        passes, steps, restarts, loss, against; missing where an attack has no such key.
    """
    groups = found.groupby([*NOISE, "attack", "epsilon"], observed=True)
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
    return table


def verdicts(
    found: pd.DataFrame, seed: int, over: Iterable[str] = ("none", "identity")
) -> pd.DataFrame:
    """Say of every noise and ε what a competent attacker leaves of its gain.

    Args:
        found: as from `worst_cases`.
        seed: of the study; keys the bootstrap.
        over: arms whose accuracy under their own worst attacks is subtracted, of the same trial and image;
            identity's at the same τ. Arm none is that of `regimes.without_noise`.

    Returns:
        columns study, network, site, source, arm, tau, regime, epsilon, over, n (images), trials,
        gain_one_draw and gain_competent (each with _low, _high, see `uncertainty.interval`), resampled (what
        counts as a sample), verdict (see `verdict`).
    """
    right = found.pivot_table(
        index=[*NOISE, "epsilon", "image"], columns="attack", values="right", observed=True
    )
    missing = {ONE_DRAW, COMPETENT} - set(right.columns)
    if missing:
        raise StudyError(
            "an audit needs an attack through one draw a gradient and an adaptive one at one ε"
        )
    rows = right.dropna().reset_index()
    frames = [_against(rows, arm, seed) for arm in over if arm in set(rows["arm"])]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _against(rows: pd.DataFrame, reference: str, seed: int) -> pd.DataFrame:
    """Return the verdicts on the gains over one arm."""
    keys = ["study", "network", "site", "against", "trial", "epsilon", "image"]
    keys += ["tau"] if reference == "identity" else []
    # arm none is the same whether noise would be on in training or at test
    regimes = rows["regime"].map(without_noise) if reference == "none" else rows["regime"]
    rows = rows.assign(against=regimes)
    base = rows[rows["arm"] == reference][[*keys, ONE_DRAW, COMPETENT]]
    shaped = rows[~rows["arm"].isin(["none", reference])]
    gains = shaped.merge(base, on=keys, suffixes=("", "_base"))
    for name in (ONE_DRAW, COMPETENT):
        gains[f"gain_{name}"] = gains[name].astype(float) - gains[f"{name}_base"].astype(float)
    groups = [name for name in NOISE if name != "trial"] + ["epsilon"]
    found = [
        dict(zip(groups, names, strict=True), over=reference)
        | _judged(own, key(seed, "audit", reference, *map(str, names)))
        for names, own in gains.groupby(groups, observed=True)
    ]
    return pd.DataFrame(found)


def _judged(gains: pd.DataFrame, seed: int) -> dict[str, Any]:
    before, after = names = [f"gain_{name}" for name in (ONE_DRAW, COMPETENT)]
    trials = gains["trial"].nunique()
    row: dict[str, Any] = {"n": gains["image"].nunique(), "trials": trials}
    for name in names:
        values = gains.pivot(index="trial", columns="image", values=name).to_numpy()
        low, high = interval(values, "difference", np.random.default_rng(seed))
        row |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
    row["resampled"] = sampled(trials)
    judged = verdict(row[before], row[f"{before}_low"], row[after], row[f"{after}_low"])
    return row | {"verdict": judged}


def verdict(before: float, before_low: float, after: float, after_low: float) -> Verdict:
    """Name in one word what is left of a gain.

    Args:
        before: gain under attacks through one draw a gradient.
        before_low: lower end of its interval.
        after: gain under a competent attacker.
        after_low: lower end of its interval.

    Returns:
        absent: there was no gain to begin with; vanishes: none is left that is surely above 0; holds: at
        least `KEPT` of it is left; shrinks: less is.
    """
    if before_low <= 0:
        return "absent"
    if after_low <= 0:
        return "vanishes"
    return "holds" if after >= KEPT * before else "shrinks"


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
