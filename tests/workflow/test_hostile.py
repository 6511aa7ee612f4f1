"""Study files that attack: one message, nothing executed, no job."""

import resource
import subprocess

import pytest

from project import STUDY, clean_environment

TAGS = {
    "command": "!!python/object/apply:os.system ['touch executed']",
    "new object": "!!python/object/new:subprocess.Popen [['touch', 'executed']]",
    "module": "!!python/module:antigravity",
    "unknown": "!foo 1",
}


def refused(project, text: str) -> str:
    """Plan the tiny study with a text added to its file, and return what Snakemake prints."""
    project.study.write_text(f"{project.study.read_text()}\n{text}\n")
    run = subprocess.run(
        [*project.command, "--dry-run", "--configfile", STUDY],
        cwd=project.folder,
        env=clean_environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stdout
    assert "Job stats" not in run.stdout
    assert len(run.stdout) < 20_000
    assert not (project.folder / "executed").exists()
    assert not project.results.exists()
    return run.stdout


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_tag_of_yaml_is_refused(fresh, tag):
    assert "Config file is not valid JSON or YAML" in refused(fresh, f"evaluation: {tag}")


def test_python_function_is_no_value(fresh):
    assert "seed: Input should be a valid integer" in refused(
        fresh, "seed: !!python/name:os.system"
    )


@pytest.mark.parametrize("key", ["bogus", "trials", "seed", "study", "suites", "experiments"])
def test_short_text_that_anchors_make_long_is_refused(fresh, key):
    """Nine levels of ten anchors each: a billion of words."""
    word = ", ".join(["x"] * 10)
    levels = [f"  - &a0 [{word}]"]
    levels += [f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert key in refused(fresh, "\n".join([f"{key}:", *levels]))


def test_colour_images_for_a_network_of_grey_ones_stop_before_any_job(fresh):
    def change(study):
        study["datasets"] = {"cifar10": {"splits": {"train": 300, "test": 60}}}
        study["networks"]["v2"]["dataset"] = "cifar10"

    fresh.edit(change)
    assert "networks.v2.dataset: v2 takes images of 1 × 28 × 28" in refused(fresh, "")
