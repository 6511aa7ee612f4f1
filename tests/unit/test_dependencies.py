"""A stage is rerun by an edit of the code that it runs, and by no other edit."""

from pathlib import Path

import pytest

from noisetransfer.dependencies import code

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_workflow(monkeypatch):
    monkeypatch.chdir(ROOT)


def modules(stage: str) -> set[str]:
    """Return the names of the files that a stage depends on."""
    return {Path(path).name for path in code(Path(f"scripts/{stage}.py"))}


@pytest.fixture
def imported(tmp_path):
    """Return the library modules that a script of the given text depends on."""

    def write_and_read(text: str) -> set[str]:
        script = tmp_path / "stage.py"
        script.write_text(text)
        return {Path(path).name for path in code(script)} - {"stage.py"}

    return write_and_read


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_itself_and_on_files_below_the_workflow(stage):
    paths = code(Path(f"scripts/{stage}.py"))
    assert f"scripts/{stage}.py" in paths
    assert all(not Path(path).is_absolute() and Path(path).is_file() for path in paths)
    assert paths == sorted(set(paths))


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_python_code_alone_and_on_no_other_stage(stage):
    others = {f"{other}.py" for other in STAGES if other != stage}
    assert not modules(stage) & others
    assert {Path(name).suffix for name in modules(stage)} == {".py"}


ZOO = "zoo references leaderboard checkpoints normalised resnets file_zoo timm_zoo torchvision_zoo"
LOADING = f"loading cuts sites tracing replay {ZOO}"
USES = {
    "train_network": "base training attacks noise networks architectures randomness suffixes",
    "fit_covariance": f"covariance ranks selection halves networks devices artifacts {LOADING}",
    "pool_covariances": "pooling covariance ranks artifacts",
    "evaluate": f"evaluation linear stages attacks noise networks arms covariance {LOADING}",
    "retrain_suffix": "retraining fine_tuning training suffixes stages noise arms covariance networks "
    + LOADING,
    "modify_images": "modifications corruptions cifar_corruptions randomness",
    "read_modified": "corrupted_sets datasets folders archives modifications artifacts",
    "attack_images": f"attacks networks randomness {LOADING}",
    "prepare_dataset": "datasets folders downloads artifacts",
    "retrieve_network": f"{ZOO} downloads artifacts",
    "prepare_network": f"{ZOO} networks devices artifacts",
    "record_activations": "networks artifacts",
    "average_classes": f"classes networks devices artifacts {LOADING}",
    "compare_covariances": "classes covariance geometry artifacts",
    "show_noise": f"nearest sample_figures stages noise arms covariance networks {LOADING}",
    "plot_geometry": "alignment mantel geometry_figures figures modifications",
    "probe_noise": f"probing tested stages evaluation noise arms covariance {LOADING}",
    "tabulate_results": "statistics",
    "summarise_results": "summary families components corruption_error outcomes uncertainty",
    "tabulate_losses": "losses",
    "tabulate_matched": "matching statistics arms artifacts",
    "tabulate_audit": "auditing uncertainty statistics modifications",
    "plot_audit": "audit_figures auditing looks",
    "plot_experiment": "curves looks figures intervals statistics variants modifications",
    "check_results": "checks gates attack_order record_parts statistics intervals modifications",
}
STUDY = "config consistency drawable plan variants dependencies"
LEAVES = {
    "train_network": f"evaluation covariance arms figures modifications datasets {LOADING} {STUDY}",
    "record_activations": f"evaluation covariance arms modifications datasets {LOADING} {STUDY}",
    "fit_covariance": f"attacks arms noise training evaluation figures modifications {STUDY}",
    "pool_covariances": f"noise networks loading evaluation modifications figures {STUDY}",
    "evaluate": f"figures curves training retraining datasets modifications statistics {STUDY}",
    "retrain_suffix": f"attacks base evaluation statistics modifications datasets {STUDY}",
    "modify_images": f"networks attacks figures datasets corrupted_sets {STUDY}",
    "read_modified": f"networks attacks figures zoo {STUDY}",
    "attack_images": f"noise training figures modifications {STUDY}",
    "retrieve_network": f"networks loading evaluation datasets modifications {STUDY}",
    "prepare_network": f"loading evaluation training datasets modifications {STUDY}",
    "prepare_dataset": f"modifications networks {STUDY}",
    "average_classes": f"covariance geometry noise training evaluation figures {STUDY}",
    "compare_covariances": f"networks figures alignment statistics training evaluation {STUDY}",
    "plot_geometry": "curves evaluation networks covariance geometry config plan dependencies",
    "tabulate_results": f"figures checks evaluation {STUDY}",
    "summarise_results": f"figures checks evaluation networks {STUDY}",
    "tabulate_losses": f"retraining training statistics figures {STUDY}",
    "tabulate_matched": f"evaluation figures curves modifications intervals {STUDY}",
    "tabulate_audit": f"attacks evaluation figures checks gates {STUDY.replace('variants ', '')}",
    "plot_audit": f"curves checks evaluation attacks {STUDY.replace('variants ', '')}",
    "plot_transfer": f"curves evaluation networks {STUDY}",
    "plot_experiment": "evaluation networks checks config plan dependencies",
    "check_results": "figures curves evaluation networks config",
}


@pytest.mark.parametrize(("stage", "uses"), USES.items())
def test_stage_depends_on_the_modules_that_it_uses(stage, uses):
    assert {f"{name}.py" for name in uses.split()} <= modules(stage)


@pytest.mark.parametrize(("stage", "leaves"), LEAVES.items())
def test_stage_does_not_depend_on_the_modules_that_it_leaves_alone(stage, leaves):
    assert modules(stage) & {f"{name}.py" for name in leaves.split()} == set()


def test_figures_concern_the_stages_that_plot_and_no_other():
    concerned = {s for s in STAGES if any(name.endswith("figures.py") for name in modules(s))}
    shown = {"show_noise", "build_report", "compare_studies"}
    assert concerned == shown | {stage for stage in STAGES if stage.startswith("plot_")}


@pytest.mark.parametrize(
    "name", ["config", "consistency", "drawable", "dependencies", "spellings", "study_schema"]
)
def test_schema_of_the_study_file_concerns_no_stage(name):
    assert not [stage for stage in STAGES if f"{name}.py" in modules(stage)]


@pytest.mark.parametrize("name", ["fitting", "injection"])
def test_library_outside_the_workflow_concerns_no_stage(name):
    assert (ROOT / f"scripts/noisetransfer/{name}.py").is_file()
    assert not [stage for stage in STAGES if f"{name}.py" in modules(stage)]


def test_errors_concern_every_stage():
    assert all("errors.py" in modules(stage) for stage in STAGES)


@pytest.mark.parametrize(
    "statement",
    [
        "from noisetransfer.architectures import find",
        "from noisetransfer.architectures import (\n    find,\n    Architecture,\n)",
        "from noisetransfer import architectures",
        "import noisetransfer.architectures",
        "import noisetransfer.architectures as known",
        "def main():\n    from noisetransfer.architectures import find",
        "try:\n    from noisetransfer.architectures import find\nexcept ImportError:\n    pass",
    ],
)
def test_import_counts_however_it_is_written(imported, statement):
    assert {"architectures.py", "errors.py"} <= imported(statement)


@pytest.mark.parametrize(
    "text",
    [
        "if TYPE_CHECKING:\n    from noisetransfer.errors import StudyError",
        "import json\nimport numpy as np\nfrom pathlib import Path",
        '"""See noisetransfer.errors."""\nNAME = "from noisetransfer.errors import StudyError"',
    ],
    ids=["for type checking", "of other packages", "in a text"],
)
def test_import_that_does_not_happen_does_not_count(imported, text):
    assert not imported(text) - {"__init__.py"}


def test_import_for_type_checking_does_not_hide_the_same_one_at_run_time(imported):
    checked = "if TYPE_CHECKING:\n    from noisetransfer.errors import StudyError\n"
    assert "errors.py" in imported(checked + "def f():\n    from noisetransfer.errors import X")


def test_imports_are_followed_through_the_library(imported):
    assert {"checks.py", "statistics.py", "errors.py"} <= imported(
        "from noisetransfer.checks import Check"
    )
