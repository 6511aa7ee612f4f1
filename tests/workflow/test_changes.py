"""What an edit costs: the table of edits and the jobs that each causes, no more and no fewer."""

import shutil
import subprocess

import pytest

END = {"write_provenance": 1, "build_report": 1, "all": 1}
DRAW = {"plot_experiment": 1, "require_checks": 1, **END}
CHECK = {"check_results": 1, **DRAW}
TABLE = {"tabulate_results": 1, "summarise_results": 1, "plot_transfer": 1, **CHECK}
SOURCE = {"fit_covariance": 1, "retrain_suffix": 1, "evaluate": 1, **TABLE}
GEOMETRY = {"average_classes": 1, "compare_covariances": 1, "plot_geometry": 1}
THIRD = {**SOURCE, **GEOMETRY, "show_noise": 3}  # the tiny study has two: too few to be compared
NOISES = 4  # none, identity, two sources
SHAPED = {"fit_covariance": 2, "retrain_suffix": NOISES, "evaluate": NOISES, **TABLE}
NETWORK = {"train_network": 1, "record_activations": 1, "attack_images": 1, **SHAPED}
IMAGES = {"modify_images": 2, "plot_modifications": 1}
ALL = {"prepare_dataset": 1, **IMAGES, **NETWORK}  # the original files are kept and verified


def study(change):
    """An edit of the study: `change` takes its parsed content."""
    return lambda project: project.edit(change)


def transfer(**values):
    """An edit of the experiment: `more_sources` adds to a list, `sources` replaces it."""

    def change(content):
        own = content["experiments"]["transfer"]
        for key, value in values.items():
            name = key.removeprefix("more_")
            own[name] = value if name == key else own[name] + value

    return study(change)


def control(content, name):
    """Add a control to the experiment."""
    content["experiments"]["transfer"]["controls"] = [name]


def suite(key, name, members):
    """An edit of the experiment: a new suite among its sources or targets."""

    def change(content):
        content["suites"][name] = members
        content["experiments"]["transfer"][key].append(name)

    return study(change)


def comment(path):
    """An edit of a file that changes nothing but the file."""
    return lambda project: _append(project.folder / path, "\n# edited\n")


def library(module):
    return comment(f"scripts/noisetransfer/{module}.py")


def replace(path, old, new):
    """An edit of a line of code."""

    def edit(project):
        text = (project.folder / path).read_text()
        assert old in text
        (project.folder / path).write_text(text.replace(old, new))

    return edit


def touch(*folders):
    """Every file gets the time of now."""

    def edit(project):
        for folder in folders:
            for path in (project.folder / folder).rglob("*"):
                if path.is_file() and not {".snakemake", "results"} & set(path.parts):
                    path.touch()

    return edit


def clone(project):
    """The files that git tracks are those of a fresh clone; results and resources are kept."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=project.folder, check=True)
    subprocess.run("git ls-files -z | xargs -0 rm", shell=True, cwd=project.folder, check=True)
    subprocess.run(["git", "checkout", "-q", "."], cwd=project.folder, check=True)


def without_records(project):
    """As where results and resources are copied without the hidden folder of Snakemake."""
    shutil.rmtree(project.folder / ".snakemake")


def remove(folder):
    return lambda project: shutil.rmtree(project.results / folder)


def both(*edits):
    return lambda project: [edit(project) for edit in edits]


def _append(path, text):
    path.write_text(path.read_text() + text)


FIGURES = "scripts/noisetransfer/figures.py"
BRIGHTER = transfer(sources=["brightness@4", "pgd@0.1"])
SNOW = {"modify_images": 1, "plot_modifications": 1, "evaluate": NOISES, **TABLE}
QUIETER = {"retrain_suffix": 3, "evaluate": 3, **TABLE}  # all but none
DRAWN = {"plot_modifications": 1, "plot_transfer": 1, **DRAW}
CRAFTED = {"attack_images": 1, "plot_modifications": 1, **SOURCE, "evaluate": NOISES}

EDITS = {
    # the study
    "a source": (transfer(more_sources=["snow@5"]), {"modify_images": 1, **THIRD}),
    "an attack as a source": (
        transfer(more_sources=["pgd@0.2"]),
        {"attack_images": 1, "plot_modifications": 1, **THIRD},
    ),
    "sources as a suite": (
        suite("sources", "weather", ["snow@5", "fog@5"]),
        {"modify_images": 2, **THIRD},
    ),
    "another strength of a source": (BRIGHTER, {"modify_images": 1, **SOURCE}),
    "a target": (transfer(more_targets=["snow@5"]), SNOW),
    "a target as a suite": (suite("targets", "more", ["snow@5"]), SNOW),
    "a trial": (study(lambda s: s["trials"].append(2)), NETWORK),
    "another τ": (transfer(tau=0.25), QUIETER),
    "a control without a source": (transfer(controls=["signal"]), SOURCE),
    "a control of each source": (
        transfer(controls=["half_a"]),
        {"fit_covariance": 2, "retrain_suffix": 2, "evaluate": 2, **TABLE},
    ),
    "a control of each source without noise": (
        transfer(controls=["fine_tuned"]),
        {"retrain_suffix": 2, "evaluate": 2, **TABLE},
    ),
    "a control that averages sources": (
        study(lambda s: (s["noise"].update(pooled=["pgd@0.1"]), control(s, "pooled"))),
        {"pool_covariances": 1, "retrain_suffix": 1, "evaluate": 1, **TABLE},
    ),
    "noise in training alone": (transfer(regime="trained_only"), {"evaluate": 3, **TABLE}),
    "noise at test alone": (transfer(regime="tested_only"), {"evaluate": 3, **TABLE}),
    "another activation": (
        study(lambda s: s["networks"]["v2"].update(activation="relu")),
        {**NETWORK, "plot_modifications": 1},
    ),
    "the budget of an attack": (study(lambda s: s["attacks"]["pgd"].update(steps=3)), CRAFTED),
    "the budget of an unused attack": (study(lambda s: s["attacks"].update(square={})), END),
    "a bound of a check": (
        study(lambda s: s["checks"]["transfer"].update(clean_accuracy=0.05)),
        CHECK,
    ),
    "another name of the study": (study(lambda s: s.update(study="other")), ALL),
    # the code
    "a colour": (replace(FIGURES, '"PuOr"', '"RdBu"'), DRAWN),
    "figures.py": (library("figures"), DRAWN),
    "curves.py": (library("curves"), DRAW),
    "checks.py": (library("checks"), CHECK),
    "statistics.py": (library("statistics"), {"plot_modifications": 1, **TABLE}),
    "evaluation.py": (library("evaluation"), {"evaluate": NOISES, **TABLE}),
    "attacks.py": (library("attacks"), CRAFTED),
    "covariance.py": (library("covariance"), SHAPED),
    "config.py": (library("config"), {}),
    "consistency.py": (library("consistency"), {}),
    "dependencies.py": (library("dependencies"), {}),
    "README.md": (comment("README.md"), {}),
    "a comment in a rule": (comment("rules/noise.smk"), {}),
    # nothing but times and places
    "touch everything": (touch("."), {}),
    "a fresh clone": (clone, {}),
    "copied without .snakemake": (without_records, {}),
    "a fresh clone without .snakemake": (both(clone, without_records), ALL),
    "tables removed": (remove("tables"), TABLE),
    "figures removed": (remove("figures"), DRAWN),
}


@pytest.mark.parametrize(("edit", "jobs"), EDITS.values(), ids=EDITS)
def test_an_edit_causes_exactly_these_jobs(done, edit, jobs):
    edit(done)
    assert done.planned() == jobs


def test_another_number_of_cores_causes_no_job(done):
    assert done.planned("--cores", "1") == done.planned("--cores", "2") == {}


def louder(content):
    """A second experiment that shares its evaluations at the first τ."""
    content["experiments"]["louder"] = {**content["experiments"]["transfer"], "tau": [0.5, 2]}
    content["figures"] = {"louder": "trace_sweep"}


def test_a_new_experiment_computes_what_it_does_not_share(done):
    done.edit(louder)
    tables = {"tabulate_results": 1, "summarise_results": 1, "plot_experiment": 1}
    own = {"retrain_suffix": 3, "evaluate": 3, **tables}
    assert done.planned() == {**own, **END}
    assert done.planned("louder") == {**own, "louder": 1}
    assert done.planned("transfer") == {}


def test_asking_for_an_experiment_builds_no_other(fresh):
    alone = fresh.planned("transfer")
    fresh.edit(louder)
    assert fresh.planned("transfer") == alone
    beside = ("plot_modifications", "write_provenance", "build_report")
    once = {name: number for name, number in ALL.items() if name not in (*beside, "all")}
    assert alone == {**once, "retrieve_dataset": 1, "transfer": 1}


RIDGE = 'ridge["relative"] * trace / d'
REALLY_RUN = {
    "a source": transfer(more_sources=["snow@5"]),
    "another τ": transfer(tau=0.25),
    "selection.py": replace("scripts/noisetransfer/selection.py", RIDGE, f"100 * {RIDGE}"),
}


@pytest.mark.parametrize("edit", REALLY_RUN.values(), ids=REALLY_RUN)
def test_an_edited_study_has_the_tables_of_one_made_from_nothing(finished, done, fresh, edit):
    for project in (done, fresh):
        edit(project)
    shutil.copytree(done.folder / "resources", fresh.folder / "resources", dirs_exist_ok=True)
    for project in (done, fresh):
        run = project.snakemake("results/tiny/tables/transfer.csv", "--cores", "2")
        assert run.returncode == 0, run.stdout
    one, two, before = (project.tables()["transfer.csv"] for project in (done, fresh, finished[0]))
    assert one == two != before
