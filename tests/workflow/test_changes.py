"""What an edit reruns: only what depends on it."""

AFTER_TABLE = {"check_results": 1, "plot_transfer": 1, "write_provenance": 1, "all": 1}
TABLE = {"tabulate_results": 1, **AFTER_TABLE}


def test_a_new_source_adds_only_its_own_jobs(done):
    done.edit(lambda study: study["experiments"]["transfer"]["sources"].append("snow@5"))
    assert done.planned() == {
        "modify_images": 1,
        "fit_covariance": 1,
        "retrain_suffix": 1,
        "evaluate": 1,
        **TABLE,
    }


def test_a_new_suite_evaluates_and_retrains_nothing(done):
    def change(study):
        study["suites"]["more"] = ["snow@5"]
        study["experiments"]["transfer"]["suites"].append("more")

    done.edit(change)
    assert done.planned() == {"modify_images": 1, "plot_modifications": 1, "evaluate": 3, **TABLE}


def test_a_new_block_of_trials_leaves_the_others(done):
    done.edit(lambda study: study["trials"].append(2))
    planned = done.planned()
    assert planned["train_network"] == planned["attack_images"] == 1
    assert planned["retrain_suffix"] == planned["evaluate"] == 3
    assert "modify_images" not in planned


def test_an_edit_of_the_figures_redraws_and_no_more(done):
    path = done.folder / "scripts/noisetransfer/figures.py"
    path.write_text(path.read_text() + "\n# edited\n")
    planned = done.planned()
    assert planned == {"plot_modifications": 1, "plot_transfer": 1, "write_provenance": 1, "all": 1}


def test_another_activation_retrains_everything(done):
    done.edit(lambda study: study["networks"]["v2"].update(activation="relu"))
    planned = done.planned()
    assert planned["train_network"] == planned["attack_images"] == 1
    assert planned["fit_covariance"] == 2
    assert planned["retrain_suffix"] == planned["evaluate"] == 3
    assert "modify_images" not in planned


def test_an_edit_of_the_attacks_retrains_nothing(done):
    path = done.folder / "scripts/noisetransfer/attacks.py"
    path.write_text(path.read_text() + "\n# edited\n")
    planned = done.planned()
    assert planned["attack_images"] == 1
    assert planned["evaluate"] == 3
    assert "train_network" not in planned


def test_touching_the_code_reruns_nothing(done):
    for path in (done.folder / "scripts").rglob("*.py"):
        path.touch()
    assert done.planned() == {}


def test_another_bound_of_a_check_only_checks(done):
    done.edit(lambda study: study["checks"]["transfer"].update(clean_accuracy=0.05))
    assert done.planned() == {"check_results": 1, "write_provenance": 1, "all": 1}
