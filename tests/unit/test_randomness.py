import subprocess
import sys

import torch

from noisetransfer.randomness import generator, key, standard_normal


def test_keys_are_the_same_on_every_machine():
    assert key(2026, "evaluation noise", 0, 3, 17) == 1699007790


def test_keys_differ_by_seed_purpose_and_id():
    keys = {key(s, p, i) for s in range(5) for p in ("train", "test") for i in range(200)}
    assert len(keys) == 5 * 2 * 200


def test_ids_are_not_glued_together():
    assert key(0, "a", 1, 23) != key(0, "a", 12, 3)


def test_draws_do_not_depend_on_the_batch():
    whole = standard_normal(50, 1, "noise", images=range(8))
    parts = [standard_normal(50, 1, "noise", images=[i]) for i in range(8)]
    assert torch.equal(whole, torch.cat(parts))


def test_the_head_of_a_draw_does_not_depend_on_its_length():
    long = standard_normal(100, 1, "noise", images=[4, 5])
    for length in (1, 7, 16, 17, 33, 99):
        assert torch.equal(standard_normal(length, 1, "noise", images=[4, 5]), long[:, :length])


def test_draws_are_standard_normal():
    draws = standard_normal(1000, 3, "noise", images=range(1000)).double()
    assert abs(float(draws.mean())) < 5e-3  # five standard errors of a million draws
    assert abs(float(draws.var()) - 1) < 7.1e-3
    assert abs(float((draws**4).mean()) - 3) < 0.05
    neighbours = (draws[:-1] * draws[1:]).mean()
    assert abs(float(neighbours)) < 5e-3


def test_global_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = standard_normal(20, 1, "noise", images=[1])
    generator(1, "order")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, standard_normal(20, 1, "noise", images=[1]))


def test_importing_the_module_imports_no_torch():
    code = "import sys, noisetransfer.randomness; sys.exit('torch' in sys.modules)"
    folder = __file__.rsplit("tests", 1)[0] + "scripts"
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
