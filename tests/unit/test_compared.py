"""Which noises have their covariances compared."""

from pathlib import Path

import pytest
import yaml

from noisetransfer.compared import compared
from noisetransfer.config import load

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
THREE = ["snow@5", "rotate@2.0", "fog@1"]


GRID = {"network": "v2", "site": "L2", "tau": 0.5, "targets": [*THREE, "clean@0"]}


def sources(arms=("none", "identity", "full"), figures=None, **experiment) -> list[str]:
    """Return the sources of the noises that are compared."""
    own = GRID | experiment
    raw = CONFIG | {"experiments": {"transfer": own}, "checks": {}, "figures": figures or {}}
    raw = raw | {"noise": CONFIG["noise"] | {"arms": list(arms)}}
    return list(dict.fromkeys(job.source for job in compared(load(raw), "transfer")))


def test_every_source_of_a_heatmap_is_compared():
    assert sources(sources=THREE) == THREE


@pytest.mark.parametrize(
    "experiment",
    [
        {"sources": THREE[:2], "targets": [*THREE[:2], "clean@0"]},  # two alone have no correlation
        {"sources": THREE, "targets": ["clean@0", "pgd@0.1"]},  # no source is a target
        {"sources": THREE, "targets": ["own"]},  # each is its own target only
        {"sources": THREE, "tau": "unscaled"},
        {"sources": THREE, "figures": {"transfer": "strength"}},
        {"sources": THREE, "arms": ["none", "full"]},  # gains need identity
        {"sources": THREE, "arms": ["identity", "diagonal"]},
    ],
)
def test_nothing_is_compared_where_nothing_could_be_said(experiment):
    assert sources(**experiment) == []


def test_controls_are_no_covariances_of_their_own():
    assert sources(sources=THREE, controls=["half_a", "signal"]) == THREE
