"""What a test under an attack costs that averages its gradients over draws of the noise."""

from pathlib import Path

import pytest
import yaml

from noisetransfer import cost_stages
from noisetransfer.config import load
from noisetransfer.cost_stages import STAGES, Job

ROOT = Path(__file__).parents[2]


def work(target, **budget):
    raw = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"checks": {}, "trials": ["0"]}
    raw["attacks"] = {target.partition("@")[0]: {"steps": 10, **budget}}
    raw["suites"] |= {"hit": [target], "clean": ["clean@0"]}
    with_attack, without = (
        STAGES["evaluate"].work(Job.named(load(raw), f"evaluate/retrain/v2/L2/tau0/any/{suite}/0"))
        for suite in ("hit", "clean")
    )
    return with_attack - without


@pytest.mark.parametrize(
    ("budget", "gradients"),
    [
        ({"passes": 1}, 1),
        ({"passes": 20}, 25 / 6),
        ({"passes": 20, "against": "known_seed"}, 15 / 6),  # the 10 passes of the scoring
        ({"passes": 20, "against": "noise_off"}, 1),
        ({"passes": 20, "against": "base"}, 1),
    ],
)
def test_draws_beyond_the_first_share_much_of_a_gradient(budget, gradients):
    """With SHARED = 5, as was measured."""
    assert cost_stages.SHARED == 5
    one = work("pgd@0.1")
    assert one > 0
    assert work("pgd_eot@0.1", **budget) == pytest.approx(gradients * one)


@pytest.mark.parametrize(
    ("attack", "budget", "gradients"),
    [
        ("rays_eot", {"steps": 30}, 30),
        ("auto_attack", {"version": "rand"}, 2 * 10),
        ("auto_attack", {"targets": 2, "queries": 50}, 10 + 2 * 2 * 10 + 50),
    ],
)
def test_each_attack_says_how_many_gradients_or_queries_it_takes(attack, budget, gradients):
    one = work("pgd@0.1") / 10
    assert work(f"{attack}@0.1", passes=1, **budget) == pytest.approx(gradients * one)
