"""Tables of a study of two sources, small enough to know their means, and of an audit."""

import pandas as pd

from noisetransfer.statistics import transfer_table


def table(
    trials: int = 2,
    own: float | None = 0.6,
    other: float | None = 0.4,
    clean: float | None = 0.8,
    spread: float = 0.0,
    identity: bool = True,
) -> pd.DataFrame:
    """Return a transfer table of snow and fog: arm none .5 and .9, identity .5, full as given ± spread."""
    full = {
        ("snow@5", "snow@5"): own,
        ("contrast@5", "contrast@5"): own,
        ("snow@5", "contrast@5"): other,
        ("snow@5", "clean@0"): clean,
        ("contrast@5", "clean@0"): clean,
    }
    keys = {"study": "s", "network": "v2", "site": "L2", "regime": "retrain", "n": 50}
    rows = []
    for trial in range(trials):
        plain = [("any", target, 0.5) for target in ("snow@5", "contrast@5")]
        plain.append(("any", "clean@0", 0.9))
        shift = spread * (-1) ** trial
        rows += [(*row, "none", "0", trial) for row in plain]
        rows += [(*row, "identity", "0.5", trial) for row in plain if identity]
        rows += [
            (*pair, value + shift, "full", "0.5", trial)
            for pair, value in full.items()
            if value is not None
        ]
    columns = ["source", "target", "accuracy", "arm", "tau", "trial"]
    return transfer_table([pd.DataFrame(rows, columns=columns).assign(**keys)])


def judged(*rows: tuple[str, str, str, float, str, float, float, str]) -> pd.DataFrame:
    """Return verdicts from arm, source, norm, ε, over, gain through one draw, gain left and verdict."""
    columns = [
        "arm",
        "source",
        "norm",
        "epsilon",
        "over",
        "gain_one_draw",
        "gain_competent",
        "verdict",
    ]
    keys = {"study": "s", "network": "v2", "site": "L2", "tau": "2.0", "regime": "retrain"}
    found = pd.DataFrame(rows, columns=columns).assign(**keys, n=50, trials=2, resampled="images")
    for name in ("gain_one_draw", "gain_competent"):
        found = found.assign(
            **{f"{name}_low": found[name] - 0.02, f"{name}_high": found[name] + 0.03}
        )
    return found
