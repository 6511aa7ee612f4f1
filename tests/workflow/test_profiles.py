"""Every profile explains itself and makes a plan, also with the options that it only suggests."""

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file

from project import ROOT, STUDY, Project, clean_environment, counts, gpu_rules

PROFILES = sorted(path.parent.name for path in (ROOT / "profiles").glob("*/config.yaml"))
PLUGINS = "NOISETRANSFER_TEST_PLUGINS"  # a folder with the plug-ins that the lock file leaves out
NEED_PLUGINS = {"htcondor", "kubernetes"}
SUGGESTED = re.compile(r"# (?=[a-z-]+:( \S+)?$|  - )")  # a sentence has a capital or more words
LIMITS = {"mem_mb": 20_000, "runtime": 240}


def lines_of(profile: str) -> list[str]:
    return (ROOT / "profiles" / profile / "config.yaml").read_text().splitlines()


def uncommented(lines: list[str]) -> list[str]:
    """Make options of what is only suggested, in place of an option that the comment says to remove."""
    active = [SUGGESTED.sub("", line) for line in lines]
    removed = [i + 1 for i, line in enumerate(lines) if "remove this line" in line]
    return [line for i, line in enumerate(active) if i not in removed]


def options(lines: list[str]) -> dict:
    return yaml.safe_load("\n".join(lines))


def with_plugins() -> dict[str, str]:
    """Return an environment in which Snakemake finds the plug-ins that the lock file leaves out."""
    if not os.environ.get(PLUGINS):
        pytest.skip(f"{PLUGINS} names no folder with the plug-ins for HTCondor and Kubernetes")
    return clean_environment() | {"PYTHONPATH": os.environ[PLUGINS]}


def snakemake(project: Project, environment: dict[str, str], *arguments: str) -> str:
    run = subprocess.run(
        [*project.command, *arguments],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def plan(project: Project, profile: str, study: str) -> dict[str, int]:
    """Count the jobs that a dry run with a profile announces."""
    environment = with_plugins() if profile in NEED_PLUGINS else clean_environment()
    arguments = ["--dry-run", "--workflow-profile", f"profiles/{profile}", "--configfile", study]
    return counts(snakemake(project, environment, *arguments))


def by_rule(listed: list[str]) -> dict[str, set[str]]:
    """Sort `rule:resource=value` by resource."""
    found: dict[str, set[str]] = {}
    for rule, resource in (entry.partition("=")[0].split(":") for entry in listed):
        found.setdefault(resource, set()).add(rule)
    return found


@pytest.mark.parametrize("profile", sorted(NEED_PLUGINS))
def test_a_profile_that_ran_nowhere_says_so_first(profile):
    assert lines_of(profile)[0].startswith("# DRY-RUN TESTED ONLY")


@pytest.mark.parametrize("study", [STUDY, "studies/paper.yaml"])
@pytest.mark.parametrize("profile", PROFILES)
def test_profile_makes_a_plan(fresh, profile, study):
    planned = plan(fresh, profile, study)
    # they have no pretrained network, the tiny study too few sources to compare
    assert gpu_rules() - {"prepare_network", "average_classes", "show_noise", "probe_noise"} <= set(
        planned
    )


@pytest.mark.parametrize(
    "profile", [p for p in PROFILES if uncommented(lines_of(p)) != lines_of(p)]
)
def test_suggested_options_make_a_plan(fresh, profile):
    lines = uncommented(lines_of(profile))
    assert len(options(lines)) > len(options(lines_of(profile)))
    (fresh.folder / "profiles" / profile / "config.yaml").write_text("\n".join(lines))
    assert plan(fresh, profile, STUDY)["evaluate"] > 0


def test_slurm_suggests_partitions_an_account_and_gpu_models():
    new = set(options(uncommented(lines_of("slurm")))) - set(options(lines_of("slurm")))
    assert new == {
        "slurm-array-jobs",
        "slurm-partition-config",
        "default-resources",
        "set-resources",
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_resources_are_set_for_the_gpu_rules_and_no_others(profile):
    found = by_rule(options(uncommented(lines_of(profile))).get("set-resources", []))
    assert all(rules == gpu_rules() for rules in found.values()), found


def test_htcondor_gets_the_gpus_and_the_memory_that_its_plugin_does_not_read():
    set_resources = options(lines_of("htcondor"))["set-resources"]
    assert set(by_rule(set_resources)) == {"request_gpus", "htcondor_request_mem_mb"}


def test_kubernetes_gets_what_its_plugin_demands_of_a_job_with_a_gpu():
    profile = options(lines_of("kubernetes"))
    assert {"gpu_manufacturer=nvidia", "scale=0"} <= set(profile["default-resources"])
    volume = profile["kubernetes-persistent-volumes"][0].partition(":")[2]
    assert Path(profile["default-storage-prefix"]).is_relative_to(volume)


@pytest.mark.skipif(not shutil.which("rsync"), reason="the storage is written by rsync")
def test_results_go_to_the_storage_and_code_and_downloads_do_not(fresh, tmp_path_factory):
    storage = tmp_path_factory.mktemp("storage")
    where = ["--default-storage-provider", "fs", "--default-storage-prefix", str(storage)]
    run = ["--cores", "1", "--until", "prepare_dataset", "--configfile", STUDY]
    snakemake(fresh, with_plugins(), *where, *run)
    assert (storage / "results/tiny/data/mnist_5k/train.safetensors").exists()
    assert [path.name for path in storage.iterdir()] == ["results"]


@pytest.mark.parametrize(
    ("resources", "partition"),
    [
        (LIMITS, "cpu"),
        (LIMITS | {"gpu": 1}, "gpu"),
        (LIMITS | {"gpu": 1, "gpu_model": "a100"}, "gpu"),
        (LIMITS | {"gpu": 1, "gpu_model": "none of these"}, None),
        (LIMITS | {"gpu": 1, "mem_mb": 300_000}, None),
    ],
)
def test_jobs_go_to_the_partition_that_fits(resources, partition):
    partitions = read_partition_file(ROOT / "profiles/slurm/partitions.yaml")
    job = SimpleNamespace(name="job", threads=1, resources=resources)
    assert get_best_partition(partitions, job, logging.getLogger(__name__)) == partition
