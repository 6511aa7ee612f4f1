"""Mistakes and damage: one clear message each, and earlier results stay."""

import resource
import signal
import subprocess
import sys

import pytest

from project import ROOT


def run_and_fail(project, *arguments):
    run = project.snakemake("--cores", "2", *arguments)
    assert run.returncode != 0
    return run.stdout


@pytest.mark.parametrize(
    ("key", "value", "fragments"),
    [
        ("sead", 1, ["sead", "unknown key", "seed"]),
        ("trials", ["4-2"], ["trials", "4-2"]),
        ("experiments", {"x": {"sites": "L3"}}, ["experiments.x.sites", "unknown key", "tau"]),
        ("attacks", {"pgd": {"step": 1}}, ["attacks.pgd.step", "keys of pgd: step_size, steps"]),
    ],
)
def test_a_bad_study_stops_before_any_job(fresh, key, value, fragments):
    fresh.edit(lambda study: study.update({key: value}))
    printed = run_and_fail(fresh)
    assert all(fragment in printed for fragment in fragments), printed
    assert "Traceback" not in printed
    assert not fresh.results.exists()


def test_a_missing_study_file_is_named(fresh):
    run = fresh.snakemake("--cores", "1", configfile="studies/nothing.yaml")
    assert run.returncode != 0
    assert "studies/nothing.yaml" in run.stdout


def test_a_file_with_a_wrong_checksum_is_not_used(fresh):
    wrong = fresh.folder / "resources/mnist_5k/mnist_5k.csv.gz"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"not the digits")
    printed = run_and_fail(fresh)
    assert "mnist_5k.csv.gz" in printed
    assert "sha256" in printed.lower()
    assert not (fresh.results / "data").exists() or not list(
        (fresh.results / "data").rglob("*.safe*")
    )


def test_a_local_folder_without_the_file_is_named(fresh):
    fresh.edit(lambda study: study["datasets"]["mnist_5k"].update(folder="/nowhere/digits"))
    printed = run_and_fail(fresh)
    assert "/nowhere/digits/mnist_5k.csv.gz" in printed


def test_a_flipped_byte_is_found_and_earlier_tables_stay(done):
    tables = done.tables()
    damaged = done.results / "networks/v2/0-1.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-10] ^= 1
    damaged.write_bytes(bytes(content))
    printed = run_and_fail(done, "--forcerun", "record_activations")
    assert "networks/v2/0-1.safetensors" in printed
    assert "checksum" in printed
    assert done.tables() == tables


def test_a_failed_check_names_measure_and_bound_and_keeps_the_table(done):
    tables = done.tables()
    done.edit(lambda study: study["checks"]["transfer"].update(clean_accuracy=0.999))
    printed = run_and_fail(done)
    assert "FAIL  clean accuracy, worst trial" in printed
    assert "must be ≥ 0.999" in printed
    assert done.tables() == tables


def test_a_full_disk_leaves_no_half_written_file(fresh):
    """A limit on the size of files stands for the disk: the same error, on any machine."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    first = fresh.snakemake("resources/mnist_5k/mnist_5k.csv.gz", "--cores", "1")
    assert first.returncode == 0, first.stdout
    output = fresh.results / "data/mnist_5k"
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts/prepare_dataset.py", "--dataset", "mnist_5k"),
            *("--folder", "resources/mnist_5k", "--output", output),
            *("--splits", '{"train": 300, "test": 60}'),
        ],
        cwd=fresh.folder,
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "train.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(output.iterdir()) == []


def test_an_experiment_may_not_have_the_name_of_a_rule(fresh):
    def change(study):
        study["experiments"]["evaluate"] = study["experiments"].pop("transfer")
        del study["checks"]

    fresh.edit(change)
    assert "experiments.evaluate: a rule has this name" in run_and_fail(fresh)
