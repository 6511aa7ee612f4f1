"""Rules, scripts, environments and profiles fit each other."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from noisetransfer import config, curves, dependencies
from noisetransfer.dependencies import code
from noisetransfer.provenance import PACKAGES

ROOT = Path(__file__).parents[2]
SCRIPTS = {path.stem: path for path in sorted((ROOT / "scripts").glob("*.py"))}
RULES = {
    name: text
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for name, text in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S)
}
STAGES = {name: text for name, text in RULES.items() if "shell:" in text}
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))
ON_A_GPU = {
    "train_network",
    "prepare_network",
    "record_activations",
    "attack_images",
    "fit_covariance",
    "average_classes",
    "show_noise",
    "probe_noise",
    "retrain_suffix",
    "evaluate",
}


def directive(rule: str, name: str) -> str:
    """Return the indented text of one directive of a rule."""
    found = re.search(rf"^    {name}:(.*?)(?=^    \w|\Z)", RULES[rule], re.M | re.S)
    return found[1].strip() if found else ""


def environment(rule: str) -> Path:
    return (ROOT / "rules" / directive(rule, "conda").strip('"')).resolve()


def pins(path: Path) -> set[str]:
    """Return what pip installs into an environment, each as `name==version`."""
    *_, pip = yaml.safe_load(path.read_text())["dependencies"]
    return set(pip["pip"])


def packages(rule: str) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(environment(rule))}


# rules


BY_HAND = ["compare_studies"]
"""Scripts that no rule runs: they take several studies."""


def test_rules_and_scripts_have_the_same_names():
    assert sorted([*STAGES, *BY_HAND]) == sorted(SCRIPTS)


@pytest.mark.parametrize("rule", STAGES)
@pytest.mark.parametrize(
    "name", ["message", "output", "log", "benchmark", "resources", "conda", "shell"]
)
def test_rule_states(rule, name):
    assert directive(rule, name)


@pytest.mark.parametrize("rule", STAGES)
def test_rule_runs_the_script_of_its_name_and_keeps_its_log(rule):
    command = directive(rule, "shell")
    assert re.findall(r"scripts/(\w+)\.py", command) == [rule]
    assert command.rstrip('"').endswith("2> {log}")
    assert f"/{rule}" in directive(rule, "log")
    assert f"/{rule}" in directive(rule, "benchmark")


# what they fetch is checked by its checksum, whatever code fetched it
CHECKED = {"retrieve_dataset", "retrieve_corrupted"}
CODE = {
    "train_network": "code_of_training(w.network)",  # without the attacks, where it runs none
    # without what makes pretrained networks, where it reads none
    **{rule: f'code_for("{rule}", w.network)' for rule in STAGES if "code_for(" in STAGES[rule]},
}


def test_stages_of_trained_and_of_pretrained_networks_tell_their_code_apart(monkeypatch):
    monkeypatch.chdir(ROOT)
    reading = {rule for rule in SCRIPTS if "loading.py" in str(code(Path(f"scripts/{rule}.py")))}
    assert reading == set(CODE) - {"train_network"}


@pytest.mark.parametrize("rule", sorted(set(STAGES) - CHECKED))
def test_rule_is_rerun_by_an_edit_of_its_own_code(rule):
    code, when = CODE.get(rule, f'code_of("{rule}")'), "lambda w: " if rule in CODE else ""
    assert f"code={when}{code}," in directive(rule, "input")
    assert f"code={when}version_of({code})," in directive(rule, "params")


def function(name: str, **known):
    """Return a function of the rules, which sees what is known of a workflow."""
    common = (ROOT / "rules/common.smk").read_text()
    for wanted in ("code_of", "code_of_zoo", name):
        exec(re.search(rf"^def {wanted}\(.*?(?=^\S)", common, re.M | re.S)[0], known)
    return known[name]


@pytest.fixture
def code_for(monkeypatch):
    """Return `code_for` of the rules, in a study whose networks are `trained` and `pretrained`."""
    monkeypatch.chdir(ROOT)
    known = {"dependencies": dependencies, "Path": Path, "source": str}
    return function("code_for", is_pretrained=lambda network: network == "pretrained", **known)


ZOO = ("zoo", "file_zoo", "robustbench_zoo", "timm_zoo", "torchvision_zoo", "package_zoo")
ZOO += ("references", "leaderboard", "checkpoints", "normalised", "resnets", "downloads")


@pytest.mark.parametrize("stage", sorted(set(CODE) - {"train_network"}))
def test_an_edit_of_the_zoo_reruns_jobs_of_pretrained_networks_alone(code_for, stage):
    edited = {f"scripts/noisetransfer/{name}.py" for name in ZOO}
    trained, pretrained = (code_for(stage, network) for network in ("trained", "pretrained"))
    assert edited <= set(pretrained)
    assert set(pretrained) - set(trained) == edited
    assert pretrained == code(Path(f"scripts/{stage}.py"))  # nothing else is left out
    assert trained == [path for path in pretrained if path not in edited]
    assert {f"scripts/{stage}.py", "scripts/noisetransfer/loading.py"} <= set(trained)


@pytest.mark.parametrize("stage", ["train_network", "record_activations"])
def test_an_edit_of_the_zoo_retrains_no_network(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    own = {Path(path).stem for path in code(Path(f"scripts/{stage}.py"))}
    assert own.isdisjoint({*ZOO, "loading", "cuts", "tracing", "replay", "linear"})


@pytest.mark.parametrize("rule", STAGES)
def test_rule_states_memory_and_time(rule):
    amount = r"(\w+)=([1-9]\d*|growing\([1-9]\d*\)|memory_of)"
    needs = dict(re.findall(amount, directive(rule, "resources")))
    assert {"mem_mb", "runtime"} <= set(needs)
    # what a cluster ends for its needs is submitted again with more
    submitted = directive(rule, "localrule") != "True"
    assert all(submitted != needs[name].isdigit() for name in ("mem_mb", "runtime"))


@pytest.mark.parametrize("rule", STAGES)
def test_rule_asks_for_a_gpu_if_it_computes_on_networks(rule):
    assert ("gpu=1" in directive(rule, "resources")) == (rule in ON_A_GPU)


@pytest.mark.parametrize("rule", STAGES)
def test_options_of_the_command_are_those_of_the_script(rule, answers):
    given = set(re.findall(r"(--[a-z-]+)", directive(rule, "shell")))
    assert given <= set(re.findall(r"(--[a-z-]+)", answers[rule]["help"]))


# scripts

ANSWER = """
import contextlib, io, json, runpy, sys
from pathlib import Path

def answer(script):
    for name in [name for name in sys.modules if name.partition(".")[0] == "noisetransfer"]:
        del sys.modules[name]
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    loaded = [n.partition(".")[2] for n in sys.modules if n.startswith("noisetransfer.")]
    return {"help": text.getvalue(), "modules": loaded}

print(json.dumps({Path(script).stem: answer(script) for script in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def answers():
    """What each script says when asked for help, and the library modules it then has loaded.

    One process for all of them: most would need seconds to import torch.
    """
    command = [sys.executable, "-c", ANSWER, *map(str, SCRIPTS.values())]
    variables = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "COLUMNS": "500"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    return json.loads(done.stdout)


@pytest.mark.parametrize("stage", SCRIPTS)
def test_script_answers_help_with_its_docstring(answers, stage):
    docstring = ast.get_docstring(ast.parse(SCRIPTS[stage].read_text()))
    assert docstring
    assert " ".join(docstring.split()) in " ".join(answers[stage]["help"].split())


@pytest.mark.parametrize("stage", SCRIPTS)
def test_modules_that_a_script_loads_are_among_its_code(answers, stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    known = {Path(path).stem for path in code(Path(f"scripts/{stage}.py"))}
    assert answers[stage]["modules"]
    # loaded for their names, see dependencies.NAMES_ONLY
    named = {Path(path).stem for path in code(Path("scripts/noisetransfer/attacks.py"))}
    assert set(answers[stage]["modules"]) - named <= known


# environments


def test_each_environment_is_that_of_some_rule():
    assert {environment(rule) for rule in STAGES} == set(ENVIRONMENTS)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_environment_has_its_name_channels_and_exact_pins(path):
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["name", "channels", "dependencies"]
    assert content["name"] == f"noisetransfer-{path.stem}"
    assert content["channels"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+", pin) for pin in pins(path))


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_pins_equal_those_of_the_project(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["smoke"]}
    assert pins(path) - known == set()


# imports whose package has another name, or comes with the package that is pinned
COMES_WITH = {
    "PIL": "torchvision",
    "cv2": "opencv-python",
    "huggingface_hub": "huggingface-hub",
    "skimage": "scikit-image",
    "urllib3": "requests",
}


# what is named by a registry, though it runs only where one of other functions does
DECODING = {
    ("datasets", "splits"),
    ("corrupted_sets", "read_official"),
    ("corrupted_sets", "read_paired"),
}
RUN_BY = {
    ("modifications", "_ENTRIES"): {("modifications", "modify")},
    ("arms", "ARMS"): {("arms", "factors")},
    ("folders", "_image"): DECODING,
    ("folders", "_resized"): DECODING,
}


def third_party(stage: str) -> set[str]:
    """Return the packages that a stage imports.

    An import inside a function of the library counts if the code of the stage names that function, itself
    or by a registry that it names: what writes no table needs no pandas.
    """
    trees = {
        Path(p).stem: ast.parse(Path(p).read_text()) for p in code(Path(f"scripts/{stage}.py"))
    }
    waiting = {
        (module, name): node
        for module, tree in trees.items()
        for node in tree.body
        for name in defined(node)
        if module != stage
    }
    run = [
        (m, node) for m, t in trees.items() for node in t.body if m == stage or not defined(node)
    ]
    named: set[tuple[str, str]] = set()
    for module, node in run:  # which grows
        named |= names(module, node, trees[module])
        reached = {one for one in waiting if one in named or (one[0], "*") in named}
        found = [one for one in reached if RUN_BY.get(one, {one}) & (named | reached)]
        run += [(one[0], waiting.pop(one)) for one in found]
    roots = {name.partition(".")[0] for _, node in run for name in imports(node)}
    return roots - sys.stdlib_module_names - {"noisetransfer"}


def defined(statement: ast.stmt) -> list[str]:
    """Return what a statement of a module defines: a function, a class, a registry."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = [getattr(statement, "target", None), *getattr(statement, "targets", [])]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def names(module: str, statement: ast.stmt, tree: ast.Module) -> set[tuple[str, str]]:
    """Return the module and the name of all that a statement names; `*` for what hands on a module whole."""
    origins = {
        alias.asname or alias.name: (node.module.partition(".")[2] or alias.name, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("noisetransfer")
        for alias in node.names
    }
    whole = {name: own for name, (own, inside) in origins.items() if own == inside}
    found, holders = set(), set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            holders.add(node.value)
            if node.value.id in whole:
                found.add((whole[node.value.id], node.attr))
        if isinstance(node, ast.Name):
            found.add(origins.get(node.id, (module, node.id)))
            if node.id in whole and node not in holders:
                found.add((whole[node.id], "*"))
    return found


def imports(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
        return set()
    inside = list(ast.walk(statement))
    plain = {a.name for n in inside if isinstance(n, ast.Import) for a in n.names}
    return plain | {n.module for n in inside if isinstance(n, ast.ImportFrom) and n.module}


@pytest.mark.parametrize("rule", STAGES)
def test_packages_that_a_stage_imports_are_in_its_environment(rule, monkeypatch):
    monkeypatch.chdir(ROOT)
    needed = {COMES_WITH.get(name, name) for name in third_party(rule)}
    assert needed - packages(rule) == set()


def test_packages_whose_versions_are_recorded_are_in_the_environment_that_records_them():
    assert set(PACKAGES) - packages("write_provenance") == set()


# profiles


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_profile_explains_every_key_above_it(path):
    content = yaml.safe_load(path.read_text())
    lines = path.read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"[\w-]+:", line)]
    assert [lines[i].partition(":")[0] for i in keys] == list(content)
    assert [lines[i] for i in keys if i == 0 or not lines[i - 1].startswith("# ")] == []


def test_there_is_a_default_profile():
    assert ROOT / "profiles" / "default" / "config.yaml" in PROFILES


# figures


def test_every_kind_of_figure_of_the_rules_can_be_drawn():
    common = (ROOT / "rules/common.smk").read_text()
    (named,) = re.findall(r'kind="\|"\.join\(\s*\[\*CURVES, (.*?)\]', common, re.DOTALL)
    (compared,) = re.findall(r"comparisons = ({.*?})", common, re.DOTALL)
    kinds = ast.literal_eval(f"[{named}]")
    assert [*config.CURVES, *sorted(kinds)] == list(curves.CURVES)
    assert set(ast.literal_eval(compared).values()) == set(kinds)
