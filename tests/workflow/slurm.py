"""A real Slurm on this machine: one node, one pretended GPU; needs root and Debian's slurm-wlm and munge."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

# The executor drops SLURM_CONF, so the configuration must lie in the usual place.
FOLDER = Path("/etc/slurm")
MUNGE = Path("/run/munge/munged.pid")  # of the daemon under which the others trust each other
MARK = "# Written by the tests of noisetransfer."
NODE = "tested"
CONFIGURATION = """{mark}
ClusterName=tested
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdTimeout=5
KillWait=2
MinJobAge=3600
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={megabytes} Gres=gpu:1
PartitionName=main Nodes={node} Default=YES DefaultTime=60 State=UP
"""


def missing() -> str:
    """Say why there can be no Slurm here; empty if there can."""
    if os.geteuid():
        return "starting Slurm needs root"
    if not all(map(shutil.which, ["slurmctld", "slurmd", "munged", "runuser"])):
        return "Slurm is not installed (Debian: apt install slurm-wlm munge)"
    running = {process.name() for process in psutil.process_iter()} & {
        "slurmd",
        "slurmctld",
        "munged",
    }
    if running:
        return f"another Slurm runs here: {', '.join(sorted(running))}"
    own = FOLDER / "slurm.conf"
    if own.exists() and not own.read_text().startswith(MARK):
        return f"{own} belongs to another Slurm"
    return ""


@dataclass(frozen=True)
class Slurm:
    """A Slurm whose state, logs and process ids lie in a folder."""

    folder: Path

    def start(self) -> None:
        host = os.uname().nodename.split(".")[0]
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        FOLDER.mkdir(exist_ok=True)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        filled = CONFIGURATION.format(
            **{"mark": MARK, "host": host, "folder": self.folder, "node": NODE},
            **{"cores": os.cpu_count(), "megabytes": int(0.9 * memory / 2**20)},
        )
        (FOLDER / "slurm.conf").write_text(filled)
        (FOLDER / "gres.conf").write_text(f"NodeName={NODE} Name=gpu File=/dev/null\n")
        MUNGE.parent.mkdir(exist_ok=True)
        shutil.chown(MUNGE.parent, "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force"], check=True)
        subprocess.run(["slurmctld"], check=True)
        self.start_node()

    def start_node(self) -> None:
        subprocess.run(["slurmd", "-N", NODE], check=True)
        wait_for(lambda: self.node_state() in ("idle", "mixed", "allocated"), "the node comes up")

    def kill_node(self) -> None:
        """Kill slurmd and the jobs, as a node dies, and wait until the controller gives it up."""
        os.kill(int((self.folder / "slurmd.pid").read_text()), signal.SIGKILL)
        for step in [p for p in psutil.process_iter() if p.name() == "slurmstepd"]:
            for process in (step, *step.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        wait_for(lambda: "down" in self.node_state(), "the controller gives the node up")

    def hurry(self) -> None:
        """Start again at once the jobs of a dead node, which Slurm lets wait for two minutes."""
        for job in self.jobs():
            if job["JobState"] == "PENDING" and job["Restarts"] != "0":
                _output("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")

    def stop(self) -> None:
        subprocess.run(["scancel", "--user", "root"], check=False)
        for pid in (self.folder / "slurmd.pid", self.folder / "slurmctld.pid", MUNGE):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
        for name in ("slurm.conf", "gres.conf"):
            (FOLDER / name).unlink()

    def node_state(self) -> str:
        return _output("sinfo", "--noheader", "--format=%T").strip()

    def jobs(self) -> list[dict[str, str]]:
        """Everything that Slurm knows of every job, the ended ones too; rule from the comment."""
        lines = _output("scontrol", "--oneliner", "show", "jobs").splitlines()
        jobs = [dict(w.split("=", 1) for w in line.split() if "=" in w) for line in lines]
        known = [job for job in jobs if "Comment" in job]
        return [{**job, "rule": rule_of(job["Comment"])} for job in known]

    def running(self) -> list[dict[str, str]]:
        return [job for job in self.jobs() if job["JobState"] == "RUNNING"]


def rule_of(comment: str) -> str:
    return comment.removeprefix("rule_").split("_wildcards_")[0]


def wait_for(happened, what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.2)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
