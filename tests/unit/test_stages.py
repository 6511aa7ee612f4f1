from argparse import Namespace

import pytest
import torch

from noisetransfer.arms import rows
from noisetransfer.artifacts import write_tensors
from noisetransfer.covariance import to_tensors
from noisetransfer.errors import StudyError
from noisetransfer.stages import noise_spec, row_names, sampler_of
from structures import CPU, D, covariance

TRIALS = [4, 7]
FITS = {
    "pgd@0.1": [covariance(seed=2), covariance(seed=3)],
    "snow@5": [covariance(8), covariance(5, seed=1)],
    "fog@1": [covariance(3, seed=4), covariance(3, seed=5)],
}


@pytest.fixture
def args(tmp_path):
    tensors = {
        f"{source}/{part}": values
        for source, fits in FITS.items()
        for part, values in to_tensors(fits).items()
    }
    path = tmp_path / "covariance.safetensors"
    write_tensors(path, tensors, producer="fit_covariance", spec={})
    return Namespace(
        sources=["snow@5", "pgd@0.1"],
        arms=["full", "rotated", "diagonal"],
        tau="0.5",
        covariance=path,
        seed=1,
        trials=TRIALS,
    )


def draws(sampler):
    return sampler.draw(sampler.keys("noise"), torch.tensor(0), torch.arange(4))


def test_the_noise_of_a_job_is_that_of_its_sources_in_its_order(args):
    found = sampler_of(args, D, CPU)
    assert (found.seed, found.trials) == (1, tuple(TRIALS))
    names = [(source, arm) for source in args.sources for arm in args.arms]
    assert row_names(args) == names
    for row, (source, arm) in enumerate(names):
        alone = rows([arm], "0.5", D, {source: FITS[source]}, seed=1, trials=TRIALS)
        expected = type(found).of(alone, CPU, seed=1, trials=TRIALS)
        torch.testing.assert_close(draws(found)[row], draws(expected)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("places", [[0], [1], [0, 1]])
def test_the_noise_of_some_trials_is_a_part_of_that_of_all(args, places):
    """A stage may keep one trial's noise at a time in memory."""
    part, whole = sampler_of(args, D, CPU, places), sampler_of(args, D, CPU)
    assert (part.seed, part.trials) == (1, tuple(TRIALS[place] for place in places))
    torch.testing.assert_close(draws(part), draws(whole)[:, places], rtol=1e-5, atol=1e-6)


@pytest.fixture
def pretrained(args, tmp_path):
    """The same with one covariance for all trials, as of a pretrained network."""
    tensors = {
        f"{source}/{part}": values
        for source, fits in FITS.items()
        for part, values in to_tensors(fits[:1]).items()
    }
    args.covariance = tmp_path / "pretrained.safetensors"
    write_tensors(args.covariance, tensors, producer="fit_covariance", spec={})
    return args


def test_trials_of_a_pretrained_network_share_its_covariance(pretrained):
    found = sampler_of(pretrained, D, CPU)
    assert found.trials == tuple(TRIALS)
    for row, (source, arm) in enumerate(row_names(pretrained)):
        alone = rows([arm], "0.5", D, {source: FITS[source][:1] * 2}, seed=1, trials=TRIALS)
        expected = type(found).of(alone, CPU, seed=1, trials=TRIALS)
        torch.testing.assert_close(draws(found)[row], draws(expected)[0], rtol=1e-5, atol=1e-6)


def test_what_is_random_differs_between_the_trials_of_a_pretrained_network(pretrained):
    """Its rotated arm has a basis per trial; full and diagonal are one in all; draws are of each trial."""
    found = sampler_of(pretrained, D, CPU)
    for (_, arm), factor in zip(row_names(pretrained), found.factors, strict=True):
        if arm == "diagonal":
            assert factor is None
        else:
            assert torch.equal(factor[0], factor[1]) == (arm == "full")
    assert torch.equal(found.scale[:, 0], found.scale[:, 1])
    noise = draws(found)
    assert not torch.isclose(noise[:, 0], noise[:, 1]).all(-1).any()


def test_the_noise_of_some_trials_of_a_pretrained_network(pretrained):
    whole = draws(sampler_of(pretrained, D, CPU))
    for place in (0, 1):
        part = draws(sampler_of(pretrained, D, CPU, [place]))
        torch.testing.assert_close(part, whole[:, [place]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("places", [None, [1]])
def test_a_source_that_the_file_lacks_is_named(args, places):
    args.sources = ["snow@5", "frost@3"]
    with pytest.raises(StudyError, match=r"covariance\.safetensors: has no covariance of frost@3$"):
        sampler_of(args, D, CPU, places)


def test_without_a_source_no_covariance_is_read(args, tmp_path):
    args.sources, args.arms, args.covariance = [], ["none", "identity"], tmp_path / "missing"
    assert row_names(args) == [("any", "none"), ("any", "identity")]
    noise = draws(sampler_of(args, D, CPU))
    assert not noise[0].any()
    assert float(noise[1].var()) == pytest.approx(0.5, rel=0.2)


def test_a_damaged_file_of_covariances_is_an_error(args):
    args.covariance.write_bytes(args.covariance.read_bytes()[:-9])
    with pytest.raises(StudyError, match="covariance"):
        sampler_of(args, D, CPU)


def test_the_noise_of_a_job_is_identified_by_sources_arms_scale_and_trials(args):
    first = noise_spec(args)
    for name, value in [
        ("sources", ["snow@5"]),
        ("arms", ["full"]),
        ("tau", "1.0"),
        ("trials", [4]),
    ]:
        assert noise_spec(Namespace(**{**vars(args), name: value})) != first
    assert noise_spec(Namespace(**vars(args))) == first


def test_arms_that_need_no_covariance_have_a_silent_row_for_each_source(args):
    args.arms, args.covariance, args.tau = ["fine_tuned"], None, "0"
    found = sampler_of(args, D, CPU)
    assert found.silent
    assert found.scale.shape == (2, 2, D)
    assert row_names(args) == [("snow@5", "fine_tuned"), ("pgd@0.1", "fine_tuned")]


def test_an_arm_of_a_covariance_is_refused_without(args):
    args.covariance = None
    with pytest.raises(StudyError, match="arm full needs a covariance"):
        sampler_of(args, D, CPU)
