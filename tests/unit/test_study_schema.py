"""The JSON schema of study files: up to date, and of one mind with the typed schema."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from noisetransfer import study_schema
from noisetransfer.architectures import ACTIVATIONS, ARCHITECTURES
from noisetransfer.arms import ARMS
from noisetransfer.attacks import ATTACKS
from noisetransfer.config import AUDIT, CURVES, HEATMAP, load
from noisetransfer.errors import StudyError
from noisetransfer.modifications import MODIFICATIONS, STRENGTHS, parse
from noisetransfer.regimes import REGIMES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "studies/study.schema.json"
STUDIES = [
    ROOT / "config.yaml",
    *sorted((ROOT / "studies").glob("*.yaml")),
    *sorted((ROOT / "tests").rglob("*.yaml")),
]
SCHEMA = study_schema.study_schema()
VALIDATOR = Draft7Validator(SCHEMA)


def edited(key: str, value: object) -> dict:
    """Return the default study without checks, one key of it, `a.b.c`, set anew."""
    study = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"checks": {}}
    *parents, last = key.split(".")
    section = study
    for parent in parents:
        section = section[parent]
    section[last] = value
    return study


def test_the_file_is_up_to_date():
    assert FILE.read_text() == study_schema.text(), "the study file has changed: run  make schema"


def test_the_command_writes_the_file(tmp_path):
    command = re.search(r"^\tPYTHONPATH=scripts \S+ (.*)$", (ROOT / "Makefile").read_text(), re.M)[
        1
    ]
    *module, _ = command.split()
    written = tmp_path / "study.schema.json"
    environment = {"PYTHONPATH": "scripts"}
    subprocess.run([sys.executable, *module, written], cwd=ROOT, env=environment, check=True)
    assert written.read_bytes() == FILE.read_bytes()


def test_the_file_is_a_schema():
    Draft7Validator.check_schema(json.loads(FILE.read_text()))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_every_study_of_the_project_is_valid(path):
    assert [e.message for e in VALIDATOR.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize("path", [*STUDIES[:1], *(ROOT / "studies").glob("*.yaml")], ids=str)
def test_a_shipped_study_names_the_schema_to_editors(path):
    first = path.read_text().splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)[1]
    assert (path.parent / named).resolve() == FILE


EXPERIMENT = "experiments.transfer"
RIGHT = [
    ("trials", [0, "1", "2-4"]),
    ("noise.rank", "full"),
    ("noise.rank", "64"),
    ("noise.rank", "explained@0.95"),
    ("noise.rank", "held_out"),
    ("noise.ridge", {"held_out": True}),
    (f"{EXPERIMENT}.network", "v2+input_noise@0.1+pgd@0.1x0.5"),
    (f"{EXPERIMENT}.network", ["v2", "v2+fgm@1e-3x1"], "adversarial_training"),
    (f"{EXPERIMENT}.site", ["L1", "L2"], "layer_sweep"),
    (f"{EXPERIMENT}.tau", 2),
    (f"{EXPERIMENT}.tau", "0.5"),
    (f"{EXPERIMENT}.tau", ["unscaled", 0.25, 1], "trace_sweep"),
    (f"{EXPERIMENT}.tau", {"others": [0.5, "unscaled"], "noise_and_weather": 2.0}, "trace_sweep"),
    (f"{EXPERIMENT}.sources", ["fog@5.0", "rotate@1", "elastic@.5", "pgd@1e-3", "others"]),
    (f"{EXPERIMENT}.targets", ["own+clean@0", "pgd_l2_eot@12.5", "frost@5+fog@1"]),
    (f"{EXPERIMENT}.regime", "inference"),
    ("suites.strong", ["snow@5", "square@1", "obstruction@0.20"]),
    ("suites.own_noise", ["snow@5"]),
    ("figures", {"transfer": "strength"}),
    ("figures", {"transfer": [HEATMAP, "strength"]}),
    ("attacks", {"pgd.weak_1": {"steps": 3}}),
    ("attacks", {"pgd": {"steps": 3}, "fgm": {}, "pgd_eot": {"loss": "dlr", "against": "base"}}),
    ("checks", {"transfer": {"own_gain": -1}}),
    ("checks", {"transfer": {"clean_accuracy": 0.9}}),
    ("checks", {"transfer": {"clean_accuracy": {"value": 0.9, "within": 0.02}}}),
    ("networks.other", {"pretrained": "torchvision:resnet18/DEFAULT", "dataset": "mnist_5k"}),
]
WRONG = [
    ("sed", 1),
    ("study", "my/study"),
    ("seed", -1),
    ("trials", []),
    ("trials", ["a"]),
    ("trials", [-1]),
    ("trials", [0.5]),
    ("datasets.mnist_5k.splits", {"train": 1, "test": 1}),
    ("datasets.mnist_5k.split", {}),
    ("datasets.mnist_5k.id", 3),
    ("trainings.standard.learning_rate", 0),
    ("networks.v2.activation", "gelu"),
    ("networks.v2.architecture", "v9"),
    ("networks.v2.pretrained", "zoo:resnet"),
    ("noise.arms", ["none", "fall"]),
    ("noise.arms", ["full", "full"]),
    ("noise.arms", []),
    ("noise.rank", 0),
    ("noise.rank", 2.5),
    ("noise.rank", "explained@1.5"),
    ("noise.rank", "explained@0"),
    ("noise.ridge", {}),
    ("noise.ridge", {"absolute": 1e-4, "relative": 1e-3}),
    ("noise.ridge", {"held_out": False}),
    ("evaluation.passes", 0),
    ("attacks", {"pdg": {}}),
    ("attacks", {"pgd.Weak": {}}),
    ("attacks", {"pgd.weak": {"restarts": 5}}),
    ("attacks.pgd", {"restarts": 5}),
    ("attacks.pgd", {"steps": 0}),
    ("attacks.pgd", None),
    ("checks", {"transfer": {"clean_accuracy": 90}}),
    ("checks", {"transfer": {"clean_accuracy": {"value": 0.9}}}),
    ("suites.all", []),
    ("suites.all", ["snow"]),
    ("suites.all", ["snwo@5"]),
    ("suites.all", ["snow@6"]),
    ("suites.all", ["rotate@2.5"]),
    ("suites.all", ["pgd@0"]),
    ("suites.all", ["pgd@1.5"]),
    ("suites.own", ["fog@5"]),
    ("suites.any", ["fog@5"]),
    ("suites.a b", ["fog@5"]),
    (EXPERIMENT, None),
    (EXPERIMENT, []),
    (f"{EXPERIMENT}.network", {"v2": 1}),
    (f"{EXPERIMENT}.network", "v2+fog@5x0.5"),
    (f"{EXPERIMENT}.network", "v2+pgd@0.1"),
    (f"{EXPERIMENT}.network", []),
    (f"{EXPERIMENT}.tau", 0),
    (f"{EXPERIMENT}.tau", "half"),
    (f"{EXPERIMENT}.tau", True),
    (f"{EXPERIMENT}.tau", [0.5, 0]),
    (f"{EXPERIMENT}.tau", {"others": 0, "noise_and_weather": 1}),
    (f"{EXPERIMENT}.sources", ["snow@6"]),
    (f"{EXPERIMENT}.targets", "all"),
    (f"{EXPERIMENT}.targets", []),
    (f"{EXPERIMENT}.targets", ["all", "all"]),
    (f"{EXPERIMENT}.targets", ["pdg@own"]),
    (f"{EXPERIMENT}.targets", ["fog@5+"]),
    (f"{EXPERIMENT}.targets", ["own+snow@6"]),
    (f"{EXPERIMENT}.regime", "retain"),
    ("figures", {"transfer": "heat"}),
    ("checks", {"transfer": {"clean_accuracy": 90}}),
    ("checks", {"transfer": {"published": {}}}),
]


@pytest.mark.parametrize(("key", "value", "figure"), [(*one, HEATMAP)[:3] for one in RIGHT])
def test_what_loads_is_valid(key, value, figure):
    study = {"figures": {"transfer": figure}} | edited(key, value)
    load(study)
    assert [error.message for error in VALIDATOR.iter_errors(study)] == []


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_what_is_wrong_is_refused_by_both(key, value):
    study = edited(key, value)
    with pytest.raises(StudyError):
        load(study)
    assert not VALIDATOR.is_valid(study)


def test_a_section_that_is_needed_is_needed_in_both():
    for name in SCHEMA["required"]:
        study = edited("seed", 0)
        del study[name]
        assert not VALIDATOR.is_valid(study)
        with pytest.raises(StudyError):
            load(study)


NUMBERS = [
    *map(
        str, (0, 0.0, 0.001, 0.1, 0.19, 0.2, 0.5, 1, 1.0, 1.5, 2, 2.0, 2.01, 5, 5.5, 6, 1000, 1001)
    )
]


@pytest.mark.parametrize(
    "strengths", {*STRENGTHS.values(), *(m.strengths for m in MODIFICATIONS.values())}
)
def test_strengths_are_written_as_they_are_allowed(strengths):
    written = {text for text in NUMBERS if re.fullmatch(strengths.written, text)}
    assert written == {text for text in NUMBERS if strengths.allow(float(text))}


def test_every_example_that_an_editor_offers_is_right():
    examples = SCHEMA["$defs"]["Grid"]["properties"]["targets"]["items"]["examples"]
    assert {parse(id)[0].name for id in examples if id != "own"} == {
        name for name, entry in MODIFICATIONS.items() if entry.kind != "official"
    }


def nodes(schema: object):
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def test_every_key_is_described():
    sections = [
        SCHEMA,
        *SCHEMA["$defs"].values(),
        *SCHEMA["properties"]["attacks"]["properties"].values(),
    ]
    keys = {
        f"{s.get('title')}.{key}": value for s in sections for key, value in s["properties"].items()
    }
    assert len(keys) > 70
    assert [key for key, value in keys.items() if not value.get("description")] == []


@pytest.mark.parametrize(
    "names",
    [list(ARMS), list(ACTIVATIONS), [HEATMAP, AUDIT, *CURVES], list(REGIMES)],
    ids=["arms", "activations", "figures", "regimes"],
)
def test_allowed_names_are_listed(names):
    assert names in [node.get("enum") for node in nodes(SCHEMA)]


def test_allowed_architectures_and_attacks_are_listed():
    (choices, *_) = SCHEMA["$defs"]["Network"]["properties"]["architecture"]["anyOf"]
    assert set(ARCHITECTURES) < set(choices["enum"])
    assert set(SCHEMA["properties"]["attacks"]["properties"]) == set(ATTACKS)
