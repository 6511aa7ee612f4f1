"""A run that is killed, again and again, ends with the same tables; no half-written file is ever found."""

import os
import random
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from noisetransfer.artifacts import PARTIAL, read_json, read_spec, read_table, read_tensors
from project import ROOT, STUDY, clean_environment

KILLS = 20
SEED = int(os.environ.get("KILLS_SEED", secrets.randbelow(10**6)))
ENDS = {  # of a whole figure or table
    ".pdf": b"%%EOF\n",
    ".png": b"IEND\xaeB`\x82",
    ".svg": b"</svg>\n",
    ".html": b"</html>",
    ".csv": b"\n",
    ".passed": b"\n",
}
PRODUCERS = {
    "data": "prepare_dataset",
    "networks": "train_network",
    "activations": "record_activations",
    "covariance": "fit_covariance",
    "noisy": "retrain_suffix",
    "figures": "plot_modifications",
}


def start(project, *arguments):
    """Start a run of the tiny study as the leader of a session: its jobs belong to it."""
    return subprocess.Popen(
        [*project.command, "--cores", "2", *arguments, "--configfile", STUDY],
        cwd=project.folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(run):
    """Kill a run and all its jobs at once; return the stages that were running."""
    stages = set()
    while alive := session(run.pid):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                stages |= {stage_of(process)} - {None}
                process.kill()
        time.sleep(0.01)
    run.wait()
    return stages


def session(leader):
    """Return the living processes of a session."""
    return [process for process in psutil.process_iter() if belongs(process, leader)]


def belongs(process, leader):
    try:
        return os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def stage_of(process):
    """Return the stage that a process runs, None of Snakemake and the shells."""
    words = [word for word in process.cmdline()[1:2] if word.startswith("scripts/")]
    return Path(words[0]).stem if words else None


def wait(run, project, files, seconds):
    """Wait until a run has written a number of files, and some seconds; or until its end."""
    enough = len(written(project)[0]) + files
    while run.poll() is None and len(written(project)[0]) < enough:
        time.sleep(0.02)
    with suppress(subprocess.TimeoutExpired):
        run.wait(seconds)


def written(project):
    """Return the files of the results under their final names, and those under temporary names."""
    paths = [path for path in project.results.rglob("*") if path.is_file()]
    files = [p for p in paths if not {"logs", "benchmarks"} & set(p.parts)]
    hidden = {path for path in files if path.parent.suffix == PARTIAL}
    return [path for path in files if path not in hidden], sorted(hidden)


def check_whole(project, whole):
    """Every file with a final name can be read, and is that of the undisturbed run byte for byte."""
    for path in written(project)[0]:
        read(path, path.relative_to(project.results).parts)
        if path.name not in ("provenance.json", "report.html"):  # hold times
            expected = whole.results / path.relative_to(project.results)
            assert path.read_bytes() == expected.read_bytes(), path


def read(path, parts):
    match path.suffix:
        case ".safetensors":
            read_tensors(path, producer=producer(path, parts[0]))
        case ".parquet":
            read_table(path)
        case ".json":
            read_json(path)
        case suffix:
            assert path.read_bytes().endswith(ENDS[suffix]), path


def producer(path, kind):
    if kind == "modified":
        return "attack_images" if "attack" in read_spec(path) else "modify_images"
    return PRODUCERS[kind]


def resume(project):
    """Do what Snakemake asks for after a kill, and what its message says."""
    unlocked = project.snakemake("--unlock")
    assert unlocked.returncode == 0, unlocked.stdout
    return start(project)


def test_a_study_killed_twenty_times_ends_with_the_same_tables(finished, fresh):
    print(f"KILLS_SEED={SEED}")  # pytest shows it where the test fails
    draws = random.Random(SEED)
    hit, leftovers = [], []
    run = start(fresh)
    while len(hit) < KILLS:
        files = draws.randrange(4)
        seconds = draws.random() * (draws.choice([0, 2]) if files else 3)
        wait(run, fresh, files, seconds)
        if run.poll() is None:
            hit.append(kill(run))
            print(f"kill {len(hit)}: {files} files + {seconds:.2f} s, during {sorted(hit[-1])}")
        else:  # the study ended first: it begins anew
            assert run.returncode == 0
            assert fresh.tables() == finished[0].tables()
            subprocess.run(["rm", "-r", fresh.results], check=True)
        check_whole(fresh, finished[0])
        leftovers += written(fresh)[1]
        run = resume(fresh)
    assert run.wait() == 0
    print("left for a while:", sorted({path.name for path in leftovers}))
    assert len(set().union(*hit)) >= 5, "too few stages were hit"
    check_whole(fresh, finished[0])
    assert fresh.tables() == finished[0].tables()
    assert written(fresh)[1] == []
    assert fresh.planned() == {}


def test_a_killed_run_tells_how_to_go_on(fresh):
    run = start(fresh)
    while run.poll() is None and not list(fresh.folder.glob(".snakemake/incomplete/*")):
        time.sleep(0.01)
    kill(run)
    locked = fresh.snakemake("--cores", "2")
    assert locked.returncode != 0
    assert "Directory cannot be locked" in locked.stdout
    assert "--unlock" in locked.stdout
    assert "Traceback" not in locked.stdout


WRITE = """
import sys, numpy
from pathlib import Path
from noisetransfer.artifacts import write_tensors
array = numpy.zeros(int(sys.argv[2]), "uint8")
write_tensors(Path(sys.argv[1]), {"x": array}, producer="test", spec={})
"""


def write(path, size):
    command = [sys.executable, "-c", WRITE, path, str(size)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ROOT / "scripts"})


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_a_kill_left_is_cleaned_when_the_file_is_written_again(tmp_path):
    path = tmp_path / "0-1.safetensors"
    first = write(path, 10**9)
    while not size_of(tmp_path):
        time.sleep(0.001)
    first.kill()
    first.wait()
    assert size_of(tmp_path)
    assert not path.exists()
    assert write(path, 10).wait() == 0
    assert list(tmp_path.iterdir()) == [path]
