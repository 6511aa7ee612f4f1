"""What an edit reruns: only what depends on it."""

import pytest

END = {"write_provenance": 1, "all": 1}
DRAW = {"plot_experiment": 1, "require_checks": 1, **END}
CHECK = {"check_results": 1, **DRAW}
TABLE = {"tabulate_results": 1, "plot_transfer": 1, **CHECK}
SOURCE = {"fit_covariance": 1, "retrain_suffix": 1, "evaluate": 1, **TABLE}
NOISES = 4  # none, identity, two sources


def experiment(study):
    return study["experiments"]["transfer"]


def test_a_new_source_adds_only_its_own_jobs(done):
    done.edit(lambda study: experiment(study)["sources"].append("snow@5"))
    assert done.planned() == {"modify_images": 1, **SOURCE}


def test_another_strength_of_a_source_adds_only_its_own_jobs(done):
    done.edit(lambda study: experiment(study)["sources"].append("pgd@0.2"))
    assert done.planned() == {"attack_images": 1, "plot_modifications": 1, **SOURCE}


def test_several_sources_as_one_suite_are_one_job(done):
    def change(study):
        study["suites"]["weather"] = ["snow@5", "fog@5"]
        experiment(study)["sources"].append("weather")

    done.edit(change)
    assert done.planned() == {"modify_images": 2, **SOURCE}


@pytest.mark.parametrize("target", ["snow@5", "more"])
def test_a_new_target_is_evaluated_and_retrains_nothing(done, target):
    def change(study):
        study["suites"]["more"] = ["snow@5"]
        experiment(study)["targets"].append(target)

    done.edit(change)
    assert done.planned() == {
        "modify_images": 1,
        "plot_modifications": 1,
        "evaluate": NOISES,
        **TABLE,
    }


def test_a_new_block_of_trials_leaves_the_others(done):
    done.edit(lambda study: study["trials"].append(2))
    assert done.planned() == {
        "train_network": 1,
        "record_activations": 1,
        "attack_images": 1,
        "fit_covariance": 2,
        "retrain_suffix": NOISES,
        "evaluate": NOISES,
        **TABLE,
    }


def test_a_new_experiment_computes_what_it_does_not_share(done):
    def change(study):
        study["experiments"]["louder"] = {**experiment(study), "tau": [0.5, 2]}
        study["figures"] = {"louder": "trace_sweep"}

    done.edit(change)
    own = {"retrain_suffix": 3, "evaluate": 3, "tabulate_results": 1, "plot_experiment": 1}
    assert done.planned() == {**own, **END}
    assert done.planned("louder") == {**own, "louder": 1}
    assert done.planned("transfer") == {}


def test_asking_for_an_experiment_builds_no_other(fresh):
    alone = fresh.planned("transfer")

    def change(study):
        study["experiments"]["other"] = {**experiment(study), "site": "L4"}

    fresh.edit(change)
    assert fresh.planned("transfer") == alone
    assert alone["retrain_suffix"] == alone["evaluate"] == NOISES
    assert not {"write_provenance", "plot_modifications", "all"} & set(alone)
    assert fresh.planned()["retrain_suffix"] == 2 * NOISES


def test_another_budget_of_an_attack_remakes_what_it_crafts(done):
    done.edit(lambda study: study["attacks"]["pgd"].update(steps=3))
    assert done.planned() == {
        "attack_images": 1,
        "plot_modifications": 1,
        **SOURCE,
        "evaluate": NOISES,
    }


def test_the_budget_of_an_attack_that_is_not_used_reruns_nothing(done):
    done.edit(lambda study: study["attacks"].update(square={"steps": 5}))
    assert done.planned() == END


def test_another_activation_retrains_everything(done):
    done.edit(lambda study: study["networks"]["v2"].update(activation="relu"))
    planned = done.planned()
    assert planned["train_network"] == planned["attack_images"] == 1
    assert planned["fit_covariance"] == 2
    assert planned["retrain_suffix"] == planned["evaluate"] == NOISES
    assert "modify_images" not in planned


EDITS = {
    "figures": {"plot_modifications": 1, "plot_transfer": 1, **DRAW},
    "curves": DRAW,
    "checks": CHECK,
    "evaluation": {"evaluate": NOISES, **TABLE},
    "config": {},
    "consistency": {},
    "dependencies": {},
}


@pytest.mark.parametrize(("module", "planned"), EDITS.items())
def test_an_edit_of_the_code_reruns_what_runs_it(done, module, planned):
    path = done.folder / f"scripts/noisetransfer/{module}.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert done.planned() == planned


def test_an_edit_of_the_attacks_leaves_the_other_images(done):
    path = done.folder / "scripts/noisetransfer/attacks.py"
    path.write_text(path.read_text() + "\n# edited\n")
    planned = done.planned()
    assert planned["attack_images"] == 1
    assert planned["evaluate"] == NOISES
    assert not {"modify_images", "train_network"} & set(planned)


def test_touching_the_code_reruns_nothing(done):
    for path in (done.folder / "scripts").rglob("*.py"):
        path.touch()
    assert done.planned() == {}


def test_another_bound_of_a_check_only_checks(done):
    done.edit(lambda study: study["checks"]["transfer"].update(clean_accuracy=0.05))
    assert done.planned() == CHECK
