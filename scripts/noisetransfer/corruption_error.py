"""Corruption error, mCE and robust accuracy of every noise, as the literature defines them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from noisetransfer.attack_order import met_by_all
from noisetransfer.modifications import L2, parse
from noisetransfer.outcomes import KEYS, Outcome
from noisetransfer.randomness import key
from noisetransfer.regimes import without_noise
from noisetransfer.uncertainty import interval

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    Errors = Mapping[str, float]
    Row = dict[str, Any]

NOISE = [name for name in KEYS if name != "target"]
"""Columns that name a noise."""

COLUMNS = [*NOISE, "n", "trials", "clean_accuracy", "corruptions", "severities", "mce"]
COLUMNS += ["mce_baseline", "threat", "attacks", "robust_accuracy"]
COLUMNS += ["robust_accuracy_low", "robust_accuracy_high"]


def corruption_errors(errors: Errors, baseline: Errors) -> dict[str, float]:
    """Return the corruption error CE of each corruption (Hendrycks & Dietterich 2019, ICLR, section 4).

    Args:
        errors: 1 − accuracy by modification, such as fog@3; the severities of a corruption are summed.
        baseline: of the network that they are relative to (theirs: AlexNet), under the same modifications.

    Returns:
        corruption → Σ errors / Σ errors of the baseline: 1 as the baseline, less is better (they write
        percent); NaN where the baseline makes no error.

    Raises:
        KeyError: if the baseline lacks a modification.
    """
    sums: dict[str, list[tuple[float, float]]] = {}
    for id, error in errors.items():
        sums.setdefault(id.partition("@")[0], []).append((error, baseline[id]))
    totals = {name: np.sum(pairs, axis=0) for name, pairs in sums.items()}
    return {name: own / base if base else np.nan for name, (own, base) in totals.items()}


def mean_corruption_error(errors: Errors, baseline: Errors) -> float:
    """Return mCE: the mean of the corruption errors; NaN without corruptions."""
    found = list(corruption_errors(errors, baseline).values())
    return float(np.mean(found)) if found else np.nan


def worst_case(attacked: Sequence[Outcome]) -> NDArray[np.bool_]:
    """Return which images are right under every one of some attacks, trial by trial, (T, n).

    The share of them is the robust accuracy (Croce & Hein 2020, ICML: the worst case per image).
    """
    right = attacked[0].right
    for one in attacked[1:]:
        right = right & one.right
    return right


def robustness(
    cells: pd.DataFrame,
    found: Sequence[Outcome],
    attacks: Collection[str],
    seed: int,
    baseline: str = "none",
) -> pd.DataFrame:
    """Return clean accuracy, mCE and robust accuracy of every noise.

    Args:
        cells: and
        found: as from `outcomes.outcomes`.
        attacks: names of those that someone could run (`attack_order.possible`); others do not count.
        seed: of the study; keys the bootstrap.
        baseline: the arm that mCE is relative to, at the same network, site and regime; none is that of
            `regimes.without_noise`.

    Returns:
        columns `COLUMNS`, one row for each noise and threat (norm and ε of attacks; one row where there is
        none); accuracies and errors are means over trials; what the experiment has no targets for is NaN
        or None. Corruptions are those of imagecorruptions and of the published sets; the attacks of a threat
        are those that all noises met that it has (`attack_order.met_by_all`).
    """
    rows, attacked = [], _under_attack(cells, attacks)
    for names, noise in cells.groupby(NOISE, sort=True, observed=True):
        named = dict(zip(NOISE, names, strict=True))
        bases = _errors(_reference(cells, named, baseline), found)
        corrupted = _corrupted(_errors(noise, found), bases, baseline)
        for robust in _robust(attacked[attacked.index.isin(noise.index)], found, seed):
            rows.append(named | _clean(noise, found) | corrupted | robust)
    return pd.DataFrame(rows, columns=COLUMNS)


def _reference(cells: pd.DataFrame, noise: Row, baseline: str) -> pd.DataFrame:
    """Return the cells of the baseline of a noise."""
    regime = without_noise(noise["regime"]) if baseline == "none" else noise["regime"]
    place = {name: noise[name] for name in ("study", "network", "site")}
    wanted = place | {"regime": regime, "arm": baseline}
    return cells[(cells[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def _errors(noise: pd.DataFrame, found: Sequence[Outcome]) -> dict[str, float]:
    kinds = {"corruption", "official"}
    targets = zip(noise.index.tolist(), noise["target"], strict=True)
    return {t: 1 - float(found[i].right.mean()) for i, t in targets if parse(t)[0].kind in kinds}


def _clean(noise: pd.DataFrame, found: Sequence[Outcome]) -> Row:
    rows = noise.index[noise["target"] == "clean@0"]
    first = found[noise.index[0]]
    accuracy = float(found[rows[0]].right.mean()) if len(rows) else np.nan
    return {"n": len(first.images), "trials": len(first.trials), "clean_accuracy": accuracy}


def _corrupted(errors: Errors, bases: Errors, baseline: str) -> Row:
    compared = bool(errors) and errors.keys() <= bases.keys()
    severities = sorted({id.partition("@")[2] for id in errors})
    return {
        "corruptions": len({id.partition("@")[0] for id in errors}),
        "severities": " ".join(severities) or None,
        "mce": mean_corruption_error(errors, bases) if compared else np.nan,
        "mce_baseline": baseline if compared else None,
    }


def _under_attack(cells: pd.DataFrame, attacks: Collection[str]) -> pd.DataFrame:
    """Return the cells under attacks, with the threat, by which noises can be compared."""
    named = cells.assign(attack=cells["target"].str.partition("@")[0])
    own = named[named["attack"].isin([*attacks])]
    threatened = own.assign(threat=own["target"].map(_threat))
    return threatened[met_by_all(threatened, NOISE, ["threat"])]


def _threat(target: str) -> str:
    entry, epsilon = parse(target)
    return f"{'L2' if entry.strengths is L2 else 'Linf'}@{epsilon}"


def _robust(attacked: pd.DataFrame, found: Sequence[Outcome], seed: int) -> list[Row]:
    """Return the robust accuracy of a noise by threat; one empty row without attacks."""
    rows: list[Row] = []
    for threat, own in attacked.groupby("threat", sort=False):
        right = worst_case([found[i] for i in own.index])
        names = [*own.iloc[0][NOISE], threat]
        random = np.random.default_rng(key(seed, "bootstrap robust accuracy", *names))
        low, high = interval(right.astype(np.float32), "accuracy", random)
        ends = {"robust_accuracy_low": low, "robust_accuracy_high": high}
        told = {"threat": threat, "attacks": " ".join(sorted(own["attack"]))}
        rows.append({**told, "robust_accuracy": float(right.mean()), **ends})
    return rows or [{}]
