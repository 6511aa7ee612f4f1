"""Mistakes and damage: one clear message each, and earlier results stay."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from project import ROOT, STUDY, clean_environment


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
            *("--id", "mnist_5k"),
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


SUITE = "v2/L3/tau0.5/pgd@0.1"
READERS = {  # what is damaged, and what is made from it
    "data/mnist_5k/train.safetensors": "activations/v2/L3/0-1.safetensors",
    "data/mnist_5k/test.safetensors": "modified/mnist_5k/brightness@5/test.safetensors",
    "modified/mnist_5k/brightness@5/train.safetensors": "covariance/v2/L3/brightness@5/0-1.safetensors",
    "modified/mnist_5k/pgd@0.1/v2/0-1/train.safetensors": "covariance/v2/L3/pgd@0.1/0-1.safetensors",
    "networks/v2/0-1.safetensors": "activations/v2/L3/0-1.safetensors",
    "activations/v2/L3/0-1.safetensors": "covariance/v2/L3/pgd@0.1/0-1.safetensors",
    "covariance/v2/L3/pgd@0.1/0-1.safetensors": f"noisy/{SUITE}/0-1.safetensors",
    f"noisy/{SUITE}/0-1.safetensors": f"evaluation/retrain/{SUITE}/all/0-1.parquet",
    f"evaluation/retrain/{SUITE}/all/0-1.parquet": "tables/transfer.parquet",
    "tables/transfer.parquet": "checks/transfer.json",
    "checks/transfer_cells.parquet": "figures/transfer_published_heatmap.png",
    "checks/transfer.json": "checks/transfer.passed",
}
REMEDY = "delete it and run again, the workflow makes it anew"


def flip(path):
    """Flip one bit: of a number, in JSON of a bracket."""
    content = bytearray(path.read_bytes())
    places = {".safetensors": lambda _: -10, ".parquet": end_of_column, ".json": lambda _: 0}
    content[places[path.suffix](path)] ^= 1
    overwrite(path, bytes(content))


def end_of_column(path):
    """Return where the first column of a Parquet file has its last byte."""
    column = pq.read_metadata(path).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    return start + column.total_compressed_size - 1


def truncate(path):
    content = path.read_bytes()
    overwrite(path, content[: len(content) // 2])


def overwrite(path, content):
    """As a disk does it that fails: the time of the file stays."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=times)


def fail_to_read(project, damaged, reader):
    """Make what is read from a damaged file, in vain; the message names file and remedy."""
    (project.results / reader).unlink()
    printed = run_and_fail(project, f"results/tiny/{reader}")
    (line,) = (line for line in printed.splitlines() if REMEDY in line)
    assert f"results/tiny/{damaged}: " in line
    assert "Traceback" not in printed


@pytest.mark.parametrize(("damaged", "reader"), READERS.items())
def test_a_flipped_bit_is_found_and_earlier_tables_stay(done, damaged, reader):
    flip(done.results / damaged)
    tables = done.tables()
    fail_to_read(done, damaged, reader)
    if "tables" not in reader:  # Snakemake removes what it is about to make
        assert done.tables() == tables


@pytest.mark.parametrize(
    "damaged",
    [
        f"noisy/{SUITE}/0-1.safetensors",
        f"evaluation/retrain/{SUITE}/all/0-1.parquet",
    ],
)
def test_a_truncated_file_is_found_and_its_remedy_mends_the_study(finished, done, damaged):
    truncate(done.results / damaged)
    fail_to_read(done, damaged, READERS[damaged])
    (done.results / damaged).unlink()
    complete(done)
    assert done.tables() == finished[0].tables()


def complete(project):
    """Run the study to its end; another run has nothing to do."""
    run = project.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout
    assert project.planned() == {}


def add_source(project):
    project.edit(lambda study: study["experiments"]["transfer"]["sources"].append("snow@5"))


@pytest.fixture
def mounted():
    """Mount on a folder, and remount it with other options; skip where this is not allowed."""
    folders = []

    def mount(folder, *options):
        command = ["mount", *options, folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount, root may: {done.stderr.strip()}")
        if folder not in folders:
            folders.append(folder)

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_disk(done, mounted):
    """Put the results on a disk of their own; returns how to set its free space in kB."""
    results = done.folder / "results"
    results.rename(done.folder / "kept")
    results.mkdir()
    mounted(results, "-t", "tmpfs", "-o", "size=64m", "tmpfs")
    shutil.copytree(done.folder / "kept", results, dirs_exist_ok=True)

    def leave(kilobytes):
        used = shutil.disk_usage(results).used // 1024
        mounted(results, "-o", f"remount,size={used + kilobytes}k")

    return leave


@pytest.mark.parametrize("kilobytes", [100, 0])
def test_a_full_disk_is_named_and_the_study_goes_on_with_more_room(done, small_disk, kilobytes):
    add_source(done)
    tables = done.tables()
    small_disk(kilobytes)
    printed = run_and_fail(done)
    path = "results/tiny/modified/mnist_5k/snow@5/train.safetensors"
    assert f"cannot write {path}: " in printed
    assert "No space left on device" in printed
    assert "Traceback" not in printed
    assert not list(done.results.rglob(".*"))
    assert done.tables() == tables
    small_disk(10_000)
    complete(done)


@contextmanager
def read_only(folder, mounted):
    """Root may write anywhere but on a disk that is mounted for reading."""
    if os.geteuid() == 0:
        mounted(folder, "--bind", folder)
        mounted(folder, "-o", "remount,ro,bind")
        yield
        mounted(folder, "-o", "remount,rw,bind")
    else:
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        yield
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)


def test_results_that_may_not_be_written_are_named_and_stay(done, mounted):
    add_source(done)
    tables = done.tables()
    with read_only(done.folder / "results", mounted):
        printed = run_and_fail(done)
    assert "Write-protected output files" in printed
    assert re.search(r"affected files:\n +results/tiny/\w", printed)  # those of any one job
    assert "Traceback" not in printed
    assert done.tables() == tables
    complete(done)


def test_a_folder_of_results_that_may_not_be_written_is_named(fresh, mounted):
    with read_only(fresh.folder / "results", mounted):
        printed = run_and_fail(fresh)
    assert "Failed to create output directory results/tiny/" in printed
    assert "Traceback" not in printed


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_completes(done):
    add_source(done)
    first = subprocess.Popen(
        [*done.command, "--cores", "2", "--configfile", STUDY],
        cwd=done.folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while first.poll() is None and not list(done.folder.glob(".snakemake/locks/*.output.lock")):
        time.sleep(0.01)
    printed = run_and_fail(done)
    assert first.poll() is None, "the first run ended too early"
    assert "Directory cannot be locked" in printed
    assert "Select jobs to execute" not in printed
    assert first.wait() == 0
    assert done.planned() == {}


HOUR = 3600


def shift(folder, seconds):
    """Set the times of all files of a folder."""
    moment = time.time() + seconds
    for path in folder.rglob("*"):
        os.utime(path, (moment, moment))


@pytest.mark.parametrize("folders", [["scripts", "resources"], ["results"], ["."]])
def test_files_from_the_future_rerun_nothing(done, folders):
    """As after a clock that ran ahead, and was set back."""
    for folder in folders:
        shift(done.folder / folder, HOUR)
    assert done.planned() == {}


def test_outputs_older_than_their_inputs_are_made_anew_once_at_most(finished, done):
    shift(done.results / "covariance", -HOUR)
    complete(done)
    assert done.tables() == finished[0].tables()


def test_a_job_that_reads_files_from_the_future_is_refused_until_they_are_touched(done):
    add_source(done)
    shift(done.folder / "scripts", HOUR)
    printed = run_and_fail(done)
    assert "has older modification time" in printed
    assert "clock skew" in printed
    assert "scripts/" in printed
    shift(done.folder / "scripts", 0)
    complete(done)


def test_an_edit_is_seen_although_the_results_are_from_the_future(done):
    shift(done.results, HOUR)
    path = done.folder / "scripts/noisetransfer/checks.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert "check_results" in done.planned()
