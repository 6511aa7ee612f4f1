"""What a study will cost: the work of jobs, lines fitted to finished ones, and what new ones take."""

import re
from pathlib import Path

import pytest
import yaml

from noisetransfer.config import Study, load
from noisetransfer.cost import CPU, Cost, Observation, estimate, fit, fit_line
from noisetransfer.cost_stages import DRAW, QUERY, STAGES, Job
from noisetransfer.errors import StudyError
from noisetransfer.plan import PRETRAINED

ROOT = Path(__file__).parents[2]
TEXT = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
RULE = r"^(?:use rule \w+ as|rule) (\w+)(?: with)?:\n(.*?)(?=^(?:use )?rule |\Z)"
RULES = dict(re.findall(RULE, TEXT, re.M | re.S))
ON_A_GPU = "NVIDIA H100"


def study(trials: str = "0-1", rank: int | str = 256, epochs: int = 6) -> Study:
    raw = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"checks": {}, "trials": [trials]}
    raw["datasets"]["mnist_5k"]["splits"] = {"train": 3500, "validation": 500, "test": 1000}
    raw["trainings"]["standard"]["epochs"] = epochs
    raw["noise"] |= {"rank": rank, "pooled": ["two"]}
    raw["suites"] |= {"one": ["snow@5"], "two": ["snow@5", "rotate@2"], "hit": ["pgd@0.1"]}
    raw["suites"] |= {"large": ["clean@0", "fog@1", "snow@5"], "small": ["clean@0"]}
    return load(raw)


PHOTOS = """
study: photos
datasets:
  photos:
    id: imagenet
    splits: {train: 400, calibration: 100, validation: 50, test: 200}
    paired: {rain: rain}
  digits:
    id: mnist_5k
    splits: {train: 400, calibration: 100, test: 200}
trainings:
  suffix: {epochs: 3}
networks:
  large: {dataset: photos}
  unvalidated: {pretrained: "timm:resnet18.a1_in1k", dataset: digits}
  v2: {architecture: v2, dataset: digits, training: suffix}
trials: [0-2]
noise: {arms: [none, identity, full]}
attacks:
  pgd: {steps: 20}
suites:
  two: [snow@5, pgd@0.1]
  read: [paired.rain@1, clean@0]
experiments:
  inference: {network: large, site: layer3, tau: 0.5, sources: [two], targets: [read], regime: inference}
"""


def pretrained(
    network: str = "torchvision:resnet50/IMAGENET1K_V2",
    training: str | None = "suffix",
    calibration: int = 100,
    crop: int | None = None,
    ridge: str = "relative: 0.001",
) -> Study:
    """Return a study of pretrained networks, and of one that is trained, with calibration images."""
    raw = yaml.safe_load(PHOTOS)
    raw["networks"]["large"] |= {"pretrained": network, "training": training}
    raw["datasets"]["photos"]["crop"] = crop
    raw["datasets"]["digits"]["splits"]["calibration"] = calibration
    raw["noise"]["ridge"] = yaml.safe_load(ridge)
    return load(raw)


def job(name: str, of=study, **changes) -> Job:
    return Job.named(of(**changes), name)


def seen(name: str, seconds: float, device: str = CPU, **changes) -> Observation:
    values = {"seconds": seconds, "memory": 1e9, "disk": 1e6}
    return Observation(job(name, **changes), device, values)


def retraining(trials: str) -> str:
    return f"retrain_suffix/v2/L2/tau0.5/one/{trials}"


def only(observations: list[Observation], name: str, device: str = CPU, **changes) -> Cost:
    """Return what is said of one job of a study."""
    (found,) = estimate(fit(observations), [job(name, **changes)], device)
    return found


# the work of jobs

NAMES = {
    "retrieve_dataset/mnist_5k/mnist_5k.csv.gz": 1,
    "retrieve_corrupted/cifar10_c/CIFAR-10-C.tar": 1,
    "prepare_dataset/mnist_5k": 5000,
    "modify_images/mnist_5k/snow@5/test": 1000,
    "redraw_images/mnist_5k/snow@5/0-1/test": 1000 * 2,
    "attack_images/mnist_5k/pgd@0.1/v2/0-1/train": 3500 * 2 * 5,
    "train_network/v2/0-1": 3500 * 6 * 2,
    "train_network/v2+pgd@0.1x0.5/0": 3500 * 6 * 3.5,
    "record_activations/v2/L2/0-1": 3500 * 2,
    "fit_covariance/v2/L2/two/0-1": 3500 * 2 * 2,
    "fit_covariance/v2/L2/two+half_a/0-1": 3500 * 2 * 2,
    "fit_covariance/v2/L2/any+signal/0-1": 3500 * 2,
    "pool_covariances/v2/L2/any+pooled/0-1": 2 * 2,
    "retrain_suffix/v2/L2/tau0/any/0": 3500 * 6,
    "retrain_suffix/v2/L2/tau0.5/two+half_a/0-1": 3500 * 6 * 2 * 2,
    "retrain_suffix/v2/L2/tau0.5/any+signal/0-1": 3500 * 6 * 2,
    "retrain_suffix/v2/L2/tau0/two+fine_tuned/0-1": 3500 * 6 * 2 * 2,
    "evaluate/retrain/v2/L2/tau0/two+fine_tuned/large/0-1": 1000 * 2 * 10 * (2 * DRAW + 2 * 3),
    "retrain_suffix/v2/L2/tau0.5/two/0-1": 3500 * 6 * (3 * 2) * 2,
    "evaluate/retrain/v2/L2/tau0/any/small/0": 1000 * 10 * (DRAW + 1),
    "evaluate/retrain/v2/L2/tau0.5/two/large/0-1": 1000 * 2 * 3 * 10 * (2 * DRAW + 2 * 3),
    "evaluate/retrain/v2/L2/tau0/any/hit/0": 1000 * (10 * (DRAW + 1) + 5 * QUERY),
    "evaluate/retrain/v2/L2/tau0/any/validation@0/0": 500 * 10 * (DRAW + 1),
    "average_classes/v2/L2/0-1": 3500 * 2,
    "compare_covariances/transfer": 2 * (9 + 9 * 8 / 2),
    "show_noise/v2/L2/tau0.5/two/0-1": 2,
    "plot_geometry/transfer": 1,
    "probe_noise/retrain/v2/L2/tau0.5/two/0-1": (3 * 2) * 2,
    "tabulate_results/transfer": 1000 * 2 * 10 * (9 * 3 + 2),
    "summarise_results/transfer": 1000 * 2 * 10 * (9 * 3 + 2),
    "tabulate_losses/transfer": 3500 * 6 * 2 * (9 * 3 + 2),
    "tabulate_matched/transfer": 1,
    "tabulate_audit/transfer": 1000 * 2 * 10 * (9 * 3 + 2),
    "plot_audit/transfer": 1,
    "plot_transfer/transfer": 1,
    "plot_experiment/transfer_published_heatmap": 1,
    "plot_modifications/mnist_5k": 1,
    "check_results/transfer": 1,
    "require_checks/transfer": 1,
    "write_provenance": 1,
    "build_report": 1,
}


PRETRAINED_NAMES = {
    "retrieve_network/large": 1,
    "prepare_network/large/pretrained": 50,
    "prepare_network/unvalidated/pretrained": 200,
    "prepare_dataset/photos": 400 + 50 + 200 + 100,
    "modify_images/photos/snow@5/calibration": 100,
    "read_modified/photos/imagenet_c.fog@3/test": 200,
    "read_modified/photos/paired.rain@1/calibration": 100,
    "attack_images/photos/pgd@0.1/large/pretrained/calibration": 100 * 20,
    "attack_images/digits/pgd@0.1/v2/0-2/calibration": 100 * 3 * 20,
    "fit_covariance/large/layer3/two/pretrained": 100 * 2,
    "fit_covariance/v2/L2/two/0-2": 100 * 3 * 2,
    "average_classes/large/layer3/pretrained": 100,
    "compare_covariances/inference": 2 + 1,
    "retrain_suffix/large/layer3/tau0.5/two/0-2": 400 * 3 * 2 * 3,
    "evaluate/inference/large/layer3/tau0.5/two/read/0-2": 200 * 3 * 10 * (2 * DRAW + 2 * 2),
    "plot_modifications/photos": 1,
    "tabulate_results/inference": 200 * 3 * (2 * 2 + 2 + 2),
}


@pytest.mark.parametrize(
    ("name", "work", "of"),
    [
        *((name, work, study) for name, work in NAMES.items()),
        *((name, work, pretrained) for name, work in PRETRAINED_NAMES.items()),
    ],
)
def test_work_of_a_job(name, work, of):
    sizes = job(name, of).sizes()
    assert sizes["seconds"] == pytest.approx(work)
    assert all(size > 0 for size in sizes.values())


@pytest.mark.parametrize(
    ("name", "memory", "disk"),
    [
        ("prepare_network/large/pretrained", 50, 1),
        ("fit_covariance/large/layer3/two/pretrained", 100, 2),
        ("retrain_suffix/large/layer3/tau0.5/two/0-2", 400, 2 * 3),
    ],
)
def test_of_a_pretrained_network_there_is_one_for_all_trials(name, memory, disk):
    sizes = job(name, pretrained).sizes()
    assert (sizes["memory"], sizes["disk"]) == (memory, disk)


def test_every_rule_with_a_benchmark_file_is_known_by_the_path_and_the_device_of_its_rule():
    benchmarks = r'\{BENCHMARKS\}/(\w+)/?(.*?)\.tsv"'
    text = TEXT.replace("{{", "{").replace("}}", "}").replace("{PRETRAINED}", PRETRAINED)
    found = dict(re.findall(benchmarks, text))
    assert found == {rule: stage.path for rule, stage in STAGES.items()}
    assert {rule for rule in found if "gpu=1" in RULES[rule]} == {
        rule for rule, stage in STAGES.items() if stage.gpu
    }
    assert set(found) == {name.partition("/")[0] for name in (*NAMES, *PRETRAINED_NAMES)}


def test_the_log_file_of_a_rule_names_its_job_as_the_benchmark_file_does():
    logs, benchmarks = (
        re.findall(rf'"{{{kind}}}/(\S+)\.\w+"', TEXT) for kind in ("LOGS", "BENCHMARKS")
    )
    assert logs == benchmarks


@pytest.mark.parametrize(
    "name",
    [
        "dream/v2",
        "train_network/v2",
        "train_network/v9/0",
        "fit_covariance/v2/L2/gone/0",
        "prepare_network/v2/0-1",
    ],
)
def test_a_job_that_the_study_does_not_have_is_refused(name):
    with pytest.raises(StudyError):
        job(name)


def test_suffixes_of_a_network_that_is_not_retrained_are_refused():
    with pytest.raises(StudyError, match=r"networks\.large: has no training"):
        job("retrain_suffix/large/layer3/tau0.5/two/0-2", pretrained, training=None)


# lines


def test_start_and_slope_are_found_again():
    line = fit_line([(size, 3 + 0.5 * size) for size in (10, 20, 80)], 2)
    assert (line.start, line.slope) == pytest.approx((3, 0.5))
    assert line.excess == pytest.approx(0, abs=1e-6)
    assert line.covers(80)
    assert not line.covers(81)


def test_values_of_one_size_grow_in_proportion_beyond_the_start():
    line = fit_line([(10, 6), (10, 8)], 2)
    assert [line.at(size) for size in (10, 20)] == pytest.approx([7, 12])
    assert line.excess == pytest.approx(1)


@pytest.mark.parametrize(
    "values", [[5, 3, 9, 7], [9, 5, 3, 1], [1, 1, 9, 99]], ids=["noisy", "falling", "steep"]
)
def test_a_line_never_falls_starts_at_no_more_than_the_least_value_and_keeps_the_sum(values):
    sizes = [10, 20, 40, 80]
    line = fit_line(list(zip(sizes, values, strict=True)), 2)
    assert line.slope >= 0
    assert 0 <= line.start <= min(values) * (1 + 1e-6)
    assert sum(map(line.at, sizes)) == pytest.approx(sum(values), rel=1e-3)


# what is said of new jobs


def test_jobs_of_a_rule_are_added_up():
    times = {"0": 12, "0-1": 22, "0-2": 32, "0-3": 42}
    several = [seen(retraining(trials), seconds) for trials, seconds in times.items()]
    new = [job(retraining("0-1")), job(retraining("0-2")), job("train_network/v2/0")]
    known, unknown = estimate(fit(several), new, CPU)
    assert (known.rule, known.jobs, known.measured) == ("retrain_suffix", 2, 4)
    assert known.seconds == pytest.approx(22 + 32)
    assert known.spread == pytest.approx((1, 1))
    assert (known.unknown, known.extrapolated) == (0, 0)
    assert known.disk == pytest.approx(2e6, rel=0.01)
    assert known.memory >= 1e9
    assert (unknown.unknown, unknown.seconds, unknown.disk, unknown.memory) == (1, 0, None, None)


def test_the_spread_is_of_times_predicted_from_the_other_jobs():
    found = only([seen(retraining("0"), s) for s in (4, 8)], retraining("0"))
    assert found.spread == pytest.approx((0.5, 2))
    assert found.seconds == pytest.approx(6)


def test_one_job_says_nothing_of_the_spread():
    assert only([seen(retraining("0"), 4)], retraining("0")).spread is None


def test_without_observations_everything_is_unknown():
    found = only([], retraining("0"))
    assert (found.unknown, found.measured, found.disk, found.memory) == (1, 0, None, None)


def test_a_larger_job_is_extrapolated_and_takes_longer():
    found = only([seen(retraining("0"), 12)], retraining("0-9"))
    assert found.extrapolated == 1
    assert found.seconds == pytest.approx(2 + 10 * 10)


def test_of_a_job_that_is_larger_by_far_only_the_disk_is_known():
    found = only([seen(retraining("0"), 12)], retraining("0-9"), epochs=600)
    assert (found.unknown, found.extrapolated, found.seconds) == (1, 0, 0)
    assert found.disk == pytest.approx(10e6)


def test_another_rank_is_a_rough_guide_and_an_exact_factor_none():
    low = [seen(retraining("0"), 12)]
    assert only(low, retraining("0")).extrapolated == 0
    assert only(low, retraining("0"), rank=16).extrapolated == 1
    assert only(low, retraining("0"), rank=16).unknown == 0
    assert only(low, retraining("0"), rank="full").unknown == 1


def test_the_rank_does_not_matter_to_arms_without_a_source():
    name = "retrain_suffix/v2/L2/tau0/any/0"
    assert only([seen(name, 12)], name, rank="full").extrapolated == 0


def test_another_site_says_nothing():
    assert only([seen(retraining("0"), 12)], retraining("0").replace("L2", "L1")).unknown == 1


def test_devices_are_not_mixed():
    on_cpu, on_gpu = seen(retraining("0"), 100), seen(retraining("0"), 4, ON_A_GPU)
    assert only([on_cpu], retraining("0"), ON_A_GPU).unknown == 1
    assert only([on_gpu], retraining("0")).unknown == 1
    both = [on_cpu, on_gpu]
    assert [only(both, retraining("0"), d).seconds for d in (CPU, ON_A_GPU)] == [100, 4]


def test_a_rule_without_a_gpu_is_the_same_on_every_device():
    name = "modify_images/mnist_5k/snow@5/test"
    assert only([seen(name, 9)], name, ON_A_GPU).seconds == pytest.approx(9)


def test_another_corruption_is_a_rough_guide_and_a_transform_none():
    known = [seen("modify_images/mnist_5k/snow@5/test", 9)]
    assert only(known, "modify_images/mnist_5k/snow@1/test").extrapolated == 0
    assert only(known, "modify_images/mnist_5k/fog@1/test").extrapolated == 1
    assert only(known, "modify_images/mnist_5k/rotate@2.0/test").unknown == 1


def test_the_regime_is_a_rough_guide():
    name = "evaluate/{}/large/layer3/tau0.5/two/read/0-2"
    known = [seen(name.format("retrain"), 9, of=pretrained)]
    assert only(known, name.format("retrain"), of=pretrained).extrapolated == 0
    assert only(known, name.format("inference"), of=pretrained).extrapolated == 1


OF_A_NETWORK = [
    "prepare_network/large/pretrained",
    "attack_images/photos/pgd@0.1/large/pretrained/calibration",
    "fit_covariance/large/layer3/two/pretrained",
    "retrain_suffix/large/layer3/tau0.5/two/0-2",
    "evaluate/inference/large/layer3/tau0.5/two/read/0-2",
]


@pytest.mark.parametrize("name", OF_A_NETWORK)
@pytest.mark.parametrize(
    "change", [{"network": "timm:resnet50.a1_in1k"}, {"crop": 64}], ids=["network", "size"]
)
def test_another_pretrained_network_or_size_of_images_says_nothing(name, change):
    known = [seen(name, 9, of=pretrained)]
    assert only(known, name, of=pretrained).unknown == 0
    assert only(known, name, of=pretrained, **change).unknown == 1


@pytest.mark.parametrize(
    "name",
    [
        "prepare_dataset/photos",
        "modify_images/photos/snow@5/calibration",
        "read_modified/photos/paired.rain@1/test",
        "plot_modifications/photos",
    ],
)
def test_images_of_another_size_say_nothing(name):
    known = [seen(name, 9, of=pretrained)]
    assert only(known, name, of=pretrained).unknown == 0
    assert only(known, name, of=pretrained, crop=64).unknown == 1


def test_the_weights_of_another_network_say_nothing():
    known = [seen("retrieve_network/large", 9, of=pretrained)]
    other = "timm:resnet50.a1_in1k"
    assert only(known, "retrieve_network/large", of=pretrained).unknown == 0
    assert only(known, "retrieve_network/large", of=pretrained, network=other).unknown == 1


def test_another_file_says_nothing():
    known = [seen("retrieve_dataset/mnist_5k/mnist_5k.csv.gz", 9)]
    assert only(known, "retrieve_dataset/mnist/train-images-idx3-ubyte.gz").unknown == 1


def test_read_images_of_another_set_say_nothing():
    known = [seen("read_modified/photos/imagenet_c.fog@3/test", 9, of=pretrained)]
    assert only(known, "read_modified/photos/imagenet_c.snow@1/test", of=pretrained).unknown == 0
    assert only(known, "read_modified/photos/paired.rain@1/test", of=pretrained).unknown == 1


def test_activations_that_are_computed_say_nothing_of_recorded_ones():
    name = "fit_covariance/v2/L2/two/0-2"
    known = [seen(name, 9, of=pretrained)]
    assert only(known, name, of=pretrained, calibration=90).unknown == 0
    assert only(known, name, of=pretrained, calibration=0).unknown == 1


def test_a_ridge_that_is_to_be_found_takes_a_time_of_its_own():
    name = "fit_covariance/large/layer3/two/pretrained"
    known = [seen(name, 9, of=pretrained)]
    assert only(known, name, of=pretrained, ridge="held_out: true").unknown == 1


@pytest.mark.parametrize("rank", ["explained@0.9", "held_out"])
def test_a_rank_that_is_to_be_found_is_compared_with_itself_only(rank):
    known = [seen(retraining("0"), 12, rank=rank)]
    assert only(known, retraining("0"), rank=rank).unknown == 0
    assert only(known, retraining("0")).unknown == 1
