"""Ids of pretrained networks: what is accepted, and what a refusal tells; all without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from noisetransfer import leaderboard, references
from noisetransfer.errors import StudyError
from noisetransfer.references import described, parse

ROOT = Path(__file__).parents[2]
FILE = {"pretrained": "file:weights/mine.th"}


@pytest.mark.parametrize(
    ("text", "zoo", "parts"),
    [
        ("robustbench:cifar10/Linf/Standard", "robustbench", ("cifar10", "Linf", "Standard")),
        ("robustbench:imagenet/corruptions/Standard_R50", "robustbench", None),
        ("torchvision:resnet50/IMAGENET1K_V2", "torchvision", ("resnet50", "IMAGENET1K_V2")),
        ("torchvision:resnet50/DEFAULT", "torchvision", ("resnet50", "DEFAULT")),
        ("timm:resnet50", "timm", ("resnet50",)),
        ("timm:resnet50.a1_in1k", "timm", ("resnet50.a1_in1k",)),
        ("package:efficientnet_lite0", "package", ("efficientnet_lite0",)),
        ("file:/data/a b/mine.safetensors", "file", None),
        ("file:C:/mine.th", "file", None),
    ],
)
def test_an_id_is_read_and_written_as_it_was(text, zoo, parts):
    reference = parse(text)
    assert reference.zoo == zoo
    assert parts in (None, reference.parts)
    assert str(reference) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resnet50", "unknown zoo; allowed are\n  robustbench:DATASET/THREAT/MODEL"),
        ("torch:resnet50", "torchvision:MODEL/WEIGHTS, such as torchvision:resnet50/IMAGENET1K_V2"),
        ("", "unknown zoo"),
        ("file:", "file:PATH"),
        ("timm:", "timm:MODEL.TAG"),
        ("timm:a/b", "timm:MODEL.TAG"),
        ("torchvision:resnet50", "torchvision:MODEL/WEIGHTS"),
        ("torchvision:resnet50/", "torchvision:MODEL/WEIGHTS"),
        ("robustbench:cifar10/Standard", "robustbench:DATASET/THREAT/MODEL"),
        ("robustbench:cifar10/Linf/Carmon2019", "there is none of that name, but Carmon2019Unlab"),
        ("robustbench:cifar10/L1/Standard", "there are cifar10/Linf, cifar10/L2, cifar10/corrup"),
        ("robustbench:imagenet/L2/Standard", "imagenet/Linf"),
        ("package:efficientnet", "efficientnet_lite0"),
    ],
)
def test_a_wrong_id_is_refused_with_what_is_right(text, told):
    with pytest.raises(StudyError) as error:
        parse(text)
    assert told in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "architecture",
    [*references.RESNETS, "torchvision:resnet18", "timm:x.y", "robustbench:cifar10/L2/Standard"],
)
def test_a_file_has_an_architecture(architecture):
    assert described(FILE | {"architecture": architecture}).architecture == architecture


def test_a_file_may_have_a_normalisation_and_a_number_of_classes():
    mean, std = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
    given = {"architecture": "resnet20", "mean": mean, "std": std, "classes": 100, "dataset": "x"}
    reference = described(FILE | given)
    assert (reference.mean, reference.std, reference.classes) == (tuple(mean), tuple(std), 100)
    assert reference == described(FILE | given)
    assert hash(reference)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "architecture: none is given; allowed: resnet20, resnet32"),
        ({"architecture": "resnet21"}, "architecture: resnet21; allowed: resnet20"),
        ({"architecture": "resnet20:x"}, "architecture: resnet20:x"),
        ({"architecture": "torchvision"}, "architecture: torchvision; allowed"),
        ({"architecture": "torchvision:"}, "architecture: torchvision:; allowed"),
        ({"architecture": "file:other"}, "architecture: file:other"),
        ({"architecture": "robustbench:cifar10/L2/Standart"}, "but Standard"),
        ({"architecture": "resnet20", "mean": [0.5] * 3}, "give both or neither"),
        ({"architecture": "resnet20", "mean": [0.5], "std": [0.5]}, "of each 3 numbers"),
        ({"architecture": "resnet20", "mean": [0.5] * 3, "std": [0.0] * 3}, "above 0"),
        ({"pretrained": "timm:x", "architecture": "resnet20"}, "architecture: only for a network"),
        ({"pretrained": "timm:x", "mean": [0.5] * 3, "std": [0.5] * 3}, "mean, std: only for"),
    ],
)
def test_what_does_not_belong_to_a_network_is_refused(given, told):
    with pytest.raises(StudyError) as error:
        described(FILE | given)
    assert told in str(error.value)


def test_the_tables_of_robustbench_hold_plausible_accuracies():
    tables = leaderboard.accuracies()
    assert {place: len(table) for place, table in tables.items()} == {
        ("cifar10", "Linf"): 76,
        ("cifar10", "L2"): 21,
        ("cifar10", "corruptions"): 17,
        ("cifar100", "Linf"): 38,
        ("cifar100", "corruptions"): 12,
        ("imagenet", "Linf"): 30,
        ("imagenet", "corruptions"): 12,
    }
    assert tables["cifar10", "Linf"]["Standard"] == 0.9478
    assert tables["imagenet", "corruptions"]["Standard_R50"] == 0.7672
    assert all(0.5 < value < 1 for table in tables.values() for value in table.values())


def test_ids_are_checked_without_torch_and_without_robustbench():
    code = (
        "import sys; from noisetransfer.references import parse; "
        "parse('robustbench:cifar10/Linf/Standard'); "
        "assert not {'torch', 'robustbench', 'timm', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
