"""A transfer table of two sources, small enough to know its means."""

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
