import copy
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import chain

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from noisetransfer import evaluation
from noisetransfer.arms import Factors
from noisetransfer.cuts import cut
from noisetransfer.devices import BATCH, COPIES, ROOM, images_at_once
from noisetransfer.evaluation import NoisyNetworks, Test, View, attacked, evaluate, score
from noisetransfer.networks import accuracy, build, split, stack
from noisetransfer.noise import NoiseSampler
from noisetransfer.randomness import Uniforms, generator, key, standard_normal
from noisetransfer.resnets import resnet
from structures import CPU, dense

Test.__test__ = False  # not a class of tests

SHAPE, TRIAL, SEED, PASSES = (1, 12, 12), 2, 5, 4
INDICES = torch.tensor([40, 7, 12, 99, 3, 58, 21])
SITES = pytest.mark.parametrize("site", ["L1", "L2", "L3", "L4", "L5"])
INPUT_NOISE = pytest.mark.parametrize("input_noise", [0.0, 0.3])
BUDGETS = {
    "fgm": {},
    "pgd": {"steps": 3, "step_size": 0.05},
    "auto_pgd": {"steps": 4, "step_size": 0.1, "restarts": 2},
    "square": {"steps": 4, "share": 0.5},
}


@cache
def base():
    return build("v2", "tanh", SHAPE, 10, seed=0).requires_grad_(False).eval()


@cache
def suffixes(site):
    """The suffixes of the three rows, with their weights doubled: so that their predictions differ."""
    found = [split(build("v2", "tanh", SHAPE, 10, seed=s), site)[1] for s in (1, 2, 3)]
    for suffix in found:
        for parameter in suffix.requires_grad_(False).parameters():
            parameter *= 2
    return found


def noises(d):
    """Of the three rows: none, isotropic, of rank 6."""
    draws = torch.Generator().manual_seed(1)
    return [
        Factors(None, torch.zeros(d)),
        Factors(None, torch.full((d,), 0.5)),
        Factors(torch.randn(d, 6, generator=draws) / 3, torch.full((d,), 0.1)),
    ]


def noisy(site="L2", input_noise=0.0, rows=(0, 1, 2)):
    prefix, suffix = split(base(), site)
    chosen = [noises(prefix(torch.zeros(1, *SHAPE)).numel())[row] for row in rows]
    sampler = NoiseSampler.of([[one] for one in chosen], CPU, seed=SEED, trials=[TRIAL])
    members = [suffixes(site)[row] for row in rows]
    return NoisyNetworks(prefix, suffix, stack(members), sampler, input_noise)


@pytest.fixture(scope="module")
def data():
    """Images, clean and modified, and labels that now this row gets right, now that one."""
    draws = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (7, *SHAPE), generator=draws, dtype=torch.uint8)
    modified = torch.rand(7, *SHAPE, generator=draws)
    hidden = split(base(), "L2")[0](clean.float() / 255)
    found = torch.stack([suffix(hidden).argmax(-1) for suffix in suffixes("L2")])
    return clean, modified, found[torch.arange(7) % 3, torch.arange(7)]


def by_hand(images, row, site="L2", input_noise=0.0):
    """Logits (K, B, 10) of one row on its images (B, …): one draw and one image at a time."""
    networks, suffix = noisy(site, input_noise), suffixes(site)[row]
    see, draw = networks.seen("evaluation noise"), networks.noise("evaluation noise")
    result = torch.empty(PASSES, len(images), 10)
    for k in range(PASSES):
        for i in range(len(images)):
            hidden = networks.prefix(see(images[i : i + 1], k, INDICES[i : i + 1]))
            noise = draw(k, INDICES[i : i + 1])[row].reshape(hidden.shape)
            result[k, i] = suffix(hidden + noise)[0]
    return result


def assert_are(found, row, logits, labels):
    assert torch.equal(found.prediction[row], logits.mean(0).argmax(-1))
    assert torch.equal(found.draws_correct[row], (logits.argmax(-1) == labels).sum(0))


@SITES
@INPUT_NOISE
def test_scores_equal_a_loop_over_networks_targets_draws_and_images(data, site, input_noise):
    clean, modified, labels = data[0].float() / 255, data[1], data[2]
    views = {"clean@0": View([0, 1, 2], clean), "snow@5": View([0, 1, 2], modified)}
    networks = noisy(site, input_noise)
    found = score(networks, views, labels, INDICES, passes=PASSES)
    assert set(found) == set(views)
    for target, view in views.items():
        for row in range(3):
            logits = by_hand(view.images, row, site, input_noise)
            assert_are(found[target], row, logits, labels)


def test_the_draws_of_the_scores_do_vary(data):
    """Else the test above could not tell the mean logits from one draw's."""
    logits = torch.stack([by_hand(data[1], row) for row in (1, 2)])
    assert (logits.argmax(-1) != logits.mean(1, keepdim=True).argmax(-1)).any()
    mode = logits.argmax(-1).mode(1).values
    assert (mode != logits.mean(1).argmax(-1)).any()


@SITES
@pytest.mark.parametrize("rows", [[1], [2, 0], [2, 1], [1, 1]])
@INPUT_NOISE
def test_a_view_of_some_rows_scores_them_in_its_order(data, site, rows, input_noise):
    networks = noisy(site, input_noise)
    views = {"all": View([0, 1, 2], data[1]), "some": View(rows, data[1])}
    found = score(networks, views, data[2], INDICES, passes=PASSES)
    assert torch.equal(found["some"].prediction, found["all"].prediction[rows])
    assert torch.equal(found["some"].draws_correct, found["all"].draws_correct[rows])


@INPUT_NOISE
def test_each_row_may_have_images_of_its_own(data, input_noise):
    own = torch.rand(2, 7, *SHAPE, generator=torch.Generator().manual_seed(3))
    networks = noisy("L2", input_noise)
    found = score(networks, {"own": View([2, 1], own)}, data[2], INDICES, passes=PASSES)["own"]
    for place, row in enumerate([2, 1]):
        assert_are(found, place, by_hand(own[place], row, "L2", input_noise), data[2])


@SITES
def test_shared_images_equal_the_same_images_for_each_row(data, site):
    views = {
        "shared": View([0, 1, 2], data[1]),
        "own": View([0, 1, 2], data[1].expand(3, *data[1].shape)),
    }
    found = score(noisy(site), views, data[2], INDICES, passes=PASSES)
    assert torch.equal(found["shared"].prediction, found["own"].prediction)
    assert torch.equal(found["shared"].draws_correct, found["own"].draws_correct)


def passed(monkeypatch, networks, data):
    """Score and count the passes."""
    tails, whole = [], NoisyNetworks.tail

    def tail(self, values):
        tails.append(values)
        return whole(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(NoisyNetworks, "tail", tail)
        view = View(range(len(networks.sampler.scale)), data[1])
        found = score(networks, {"t": view}, data[2], INDICES, passes=PASSES)["t"]
    return found, len(tails)


def test_networks_without_noise_take_one_pass_for_all(monkeypatch, data):
    found, passes = passed(monkeypatch, noisy(rows=[0]), data)
    assert passes == 1
    right = found.prediction == data[2]
    assert right.any()
    assert not right.all()
    assert torch.equal(found.draws_correct, PASSES * right)
    assert torch.equal(found.prediction[0], by_hand(data[1], 0).mean(0).argmax(-1))


def test_networks_with_any_noise_take_every_pass(monkeypatch, data):
    for networks in (noisy(), noisy(rows=[0], input_noise=0.3)):
        assert passed(monkeypatch, networks, data)[1] == PASSES


def test_noise_is_keyed_by_purpose_trial_number_and_image(data):
    networks = noisy()
    keys = torch.tensor([key(SEED, "attack noise", TRIAL)])
    expected = networks.sampler.draw(keys, torch.tensor(3), INDICES)[:, 0]
    noise = networks.noise("attack noise")
    assert torch.equal(noise(3, INDICES), expected)
    assert torch.equal(noise(3, INDICES.flip(0)), expected.flip(1))
    for other in (noise(2, INDICES), networks.noise("evaluation noise")(3, INDICES)):
        assert not torch.isclose(other[1], expected[1]).any()
    silent = noisy(rows=[0]).noise("attack noise")(3, INDICES)
    assert silent.shape == (1, *expected.shape[1:])
    assert not silent.any()


def test_input_noise_is_keyed_by_purpose_trial_number_and_image(data):
    networks, images = noisy(input_noise=0.3), data[1]
    keys = torch.tensor([key(SEED, "input attack noise", TRIAL)])
    draws = standard_normal(144, keys, torch.tensor(3), INDICES)[0].unflatten(-1, SHAPE)
    see = networks.seen("attack noise")
    torch.testing.assert_close(see(images, 3, INDICES), images + 0.3 * draws)
    own = torch.stack([images, 1 - images])
    torch.testing.assert_close(see(own, 3, INDICES), own + 0.3 * draws)
    other = networks.seen("evaluation noise")(images, 3, INDICES)
    assert not torch.isclose(other, images + 0.3 * draws).any()
    assert noisy().seen("attack noise")(images, 3, INDICES) is images


def test_of_takes_suffixes_of_some_rows():
    networks = noisy()
    assert networks.of([0, 1, 2]) is networks
    for rows in ([2, 0], [1, 1, 2]):
        found = networks.of(rows).parameters
        for place, row in enumerate(rows):
            for name, values in suffixes("L2")[row].named_parameters():
                assert torch.equal(found[name][place], values)


def craft(networks, data, name="pgd", rows=(0, 1, 2), epsilons=(0.1,) * 3, images=None):
    images = data[0].float() / 255 if images is None else images
    return attacked(
        networks,
        images,
        data[2],
        INDICES[: len(images)],
        attack=name,
        rows=list(rows),
        epsilons=epsilons,
        budget=BUDGETS[name],
    )


@SITES
@INPUT_NOISE
def test_the_attack_is_white_box_with_a_keyed_draw_a_gradient(data, site, input_noise):
    """FGM by hand: the gradient of the row's own noisy network."""
    networks, images = noisy(site, input_noise), data[0].float() / 255
    found = craft(networks, data, "fgm")
    see, draw = networks.seen("attack noise"), networks.noise("attack noise")
    for row, suffix in enumerate(suffixes(site)):
        point = images.clone().requires_grad_()
        hidden = networks.prefix(see(point, 0, INDICES))
        noise = draw(0, INDICES)[row].reshape(hidden.shape)
        cross_entropy(suffix(hidden + noise), data[2], reduction="sum").backward()
        expected = (images + 0.1 * point.grad.sign()).clamp(0, 1)
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("name", BUDGETS)
@INPUT_NOISE
def test_rows_and_radii_are_attacked_as_if_alone(data, name, input_noise):
    """A row may stand several times."""
    networks, images = noisy(input_noise=input_noise), data[0].float() / 255
    rows, epsilons = [2, 0, 2, 1], [0.05, 0.1, 0.2, 0.02]
    found = craft(networks, data, name, rows, epsilons)
    assert found.shape == (4, *images.shape)
    assert found.min() >= 0
    assert found.max() <= 1
    for own, row, epsilon in zip(found, rows, epsilons, strict=True):
        distance = (own - images).abs().max()
        assert 0.5 * epsilon < distance <= epsilon + 1e-6
        alone = craft(networks, data, name, [row], [epsilon])[0]
        torch.testing.assert_close(own, alone)


@pytest.fixture
def drawn(monkeypatch):
    """The draws of noise so far: (purpose, number, images)."""
    purposes = {
        key(SEED, f"{start}{purpose} noise", TRIAL): f"{start}{purpose}"
        for purpose in ("attack", "evaluation")
        for start in ("", "input ")
    }
    seen, whole = [], NoiseSampler.draw
    on_pixels = evaluation.noisy_pixels

    def draw(self, keys, number, images):
        seen.append((purposes[int(keys)], int(number), images.tolist()))
        return whole(self, keys, number, images)

    def noisy_pixels(images, sigma, keys, number, indices):
        seen.append((purposes[int(keys)], int(number), indices.tolist()))
        return on_pixels(images, sigma, keys, number, indices)

    monkeypatch.setattr(NoiseSampler, "draw", draw)
    monkeypatch.setattr(evaluation, "noisy_pixels", noisy_pixels)
    return seen


@pytest.mark.parametrize(
    ("name", "queries"), [("fgm", 1), ("pgd", 3), ("auto_pgd", 22), ("square", 15)]
)
def test_an_attack_sees_one_draw_a_query(data, drawn, name, queries):
    """No two queries share one, and all rows and images share it."""
    craft(noisy(input_noise=0.3), data, name)
    numbers = [number for purpose, number, _ in drawn if purpose == "attack"]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) <= set(range(queries))
    if name in ("fgm", "pgd"):
        assert numbers == list(range(queries))
    assert [n for purpose, n, _ in drawn if purpose == "input attack"] == numbers
    assert {tuple(images) for _, _, images in drawn} == {tuple(INDICES.tolist())}


def test_scoring_draws_anew(data, drawn):
    evaluate(noisy(input_noise=0.3), trial(data, attacks=("pgd",)), batch_size=7)
    counts = Counter((purpose, number) for purpose, number, _ in drawn)
    assert {number for purpose, number in counts if purpose == "attack"} == {0, 1, 2}
    scored = {number: n for (purpose, number), n in counts.items() if purpose == "evaluation"}
    assert scored == dict.fromkeys(range(PASSES), 1)  # once for all targets
    assert {number for purpose, number in counts if purpose == "input evaluation"} == set(
        range(PASSES)
    )


@pytest.mark.parametrize("name", ["auto_pgd", "square"])
def test_random_attacks_are_keyed_by_trial_and_image(monkeypatch, data, name):
    made = []
    monkeypatch.setattr(
        evaluation, "Uniforms", lambda *given: made.append(given) or Uniforms(*given)
    )
    first = craft(noisy(), data, name)
    ((keys, images, offset),) = made
    assert keys.tolist() == [key(SEED, "attack", TRIAL)] * 3
    assert images.tolist() == INDICES.tolist()
    assert int(offset) == 0
    networks = noisy()
    other = replace(networks, sampler=replace(networks.sampler, trials=(TRIAL + 1,)))
    assert not torch.equal(craft(other, data, name)[0], first[0])  # row 0 has no noise


ROWS = [("snow@5", "none"), ("snow@5", "identity"), ("pgd@0.1", "full")]


def trial(data, attacks=(), targets=None):
    clean, modified, labels = data
    epsilons = {"fgm": 0.1, "pgd": 0.1, "auto_pgd": 0.15, "square": 0.1}
    crafted = {
        f"{name}@{epsilons[name]}": {
            "attack": name,
            "epsilon": epsilons[name],
            **BUDGETS[name],
        }
        for name in attacks
    }
    if "pgd" in attacks:
        crafted["pgd@0.02"] = {**crafted["pgd@0.1"], "epsilon": 0.02}
    natural = {"clean@0": clean, "snow@5": modified}
    return Test(
        rows=ROWS,
        targets=targets or {target: [0, 1, 2] for target in [*natural, *crafted]},
        clean=clean,
        modified=natural,
        attacks=crafted,
        labels=labels,
        indices=INDICES,
        passes=PASSES,
    )


def sort(records):
    return records.sort_values(["target", "source", "arm", "image"], ignore_index=True)


def test_there_is_one_record_per_target_row_and_image(data):
    records = evaluate(noisy(), trial(data, ["pgd"]), batch_size=3)
    assert list(records) == [
        "source",
        "arm",
        "target",
        "image",
        "label",
        "prediction",
        "draws_correct",
        "K",
    ]
    targets = ["clean@0", "snow@5", "pgd@0.1", "pgd@0.02"]
    expected = {
        (*row, target, image) for row in ROWS for target in targets for image in INDICES.tolist()
    }
    found = list(records[["source", "arm", "target", "image"]].itertuples(index=False, name=None))
    assert len(found) == len(expected)
    assert set(found) == expected
    assert (records["K"] == PASSES).all()
    assert records["draws_correct"].between(0, PASSES).all()
    labels = records.drop_duplicates("image").set_index("image")["label"]
    assert labels[INDICES.tolist()].tolist() == data[2].tolist()


@INPUT_NOISE
def test_records_hold_the_scores_of_their_row_target_and_image(data, input_noise):
    """Against the loop, on the images that `attacked` gives."""
    networks = noisy(input_noise=input_noise)
    records = evaluate(networks, trial(data, ["pgd"]), batch_size=3)
    clean = data[0].float() / 255
    images = {"clean@0": clean.expand(3, *clean.shape), "snow@5": data[1].expand(3, *clean.shape)}
    images["pgd@0.1"] = craft(networks, data, "pgd")
    images["pgd@0.02"] = craft(networks, data, "pgd", epsilons=[0.02] * 3)
    by_key = records.set_index(["source", "arm", "target"]).sort_index()
    for target, own in images.items():
        for row, name in enumerate(ROWS):
            found = by_key.loc[(*name, target)].set_index("image").loc[INDICES.tolist()]
            logits = by_hand(own[row], row, "L2", input_noise)
            assert found["prediction"].tolist() == logits.mean(0).argmax(-1).tolist()
            right = (logits.argmax(-1) == data[2]).sum(0)
            assert found["draws_correct"].tolist() == right.tolist()


def test_rows_are_tested_under_their_own_targets_alone(data):
    targets = {"clean@0": [0, 1, 2], "snow@5": [1], "pgd@0.1": [2, 0], "pgd@0.02": [0]}
    every = evaluate(noisy(), trial(data, ["pgd"]))
    some = evaluate(noisy(), trial(data, ["pgd"], targets))
    kept = [
        every[(every["target"] == target) & (every["source"] == s) & (every["arm"] == a)]
        for target, rows in targets.items()
        for s, a in (ROWS[row] for row in rows)
    ]
    pd.testing.assert_frame_equal(sort(some), sort(pd.concat(kept)))


@INPUT_NOISE
def test_records_do_not_depend_on_the_batch_size(data, input_noise):
    test, networks = trial(data, BUDGETS), noisy(input_noise=input_noise)
    expected = sort(evaluate(networks, test))
    for size in (1, 3, 6):
        pd.testing.assert_frame_equal(sort(evaluate(networks, test, size)), expected)


@pytest.mark.parametrize("limit", [1, 2, 4, 100])
def test_records_do_not_depend_on_the_size_of_a_stack(monkeypatch, data, limit):
    test = trial(data, BUDGETS)
    expected = evaluate(noisy(), test)
    sizes, whole = [], evaluation.attacked

    def spied(*given, rows, **options):
        sizes.append(len(rows))
        return whole(*given, rows=rows, **options)

    monkeypatch.setattr(evaluation, "attacked", spied)
    monkeypatch.setattr(evaluation, "stack_size", lambda *_: limit)
    pd.testing.assert_frame_equal(evaluate(noisy(), test), expected)
    assert max(sizes) <= limit
    assert sum(sizes) == 3 * 5
    if limit == 100:
        assert sorted(sizes) == [3, 3, 3, 6]  # both strengths of PGD at once


def test_attacks_that_differ_in_more_than_epsilon_are_kept_apart():
    pgd = {"attack": "pgd", "epsilon": 0.1, "steps": 3}
    attacks = {
        "pgd@0.1": pgd,
        "fgm@0.1": {"attack": "fgm", "epsilon": 0.1},
        "pgd@0.2": {**pgd, "epsilon": 0.2},
        "longer": {**pgd, "steps": 4},
    }
    jobs = [(target, row) for target in attacks for row in (0, 2, 5)]
    groups = evaluation._alike(jobs, attacks, 4)
    assert sorted(chain(*groups)) == sorted(jobs)
    assert max(map(len, groups)) <= 4
    kinds = [{(attacks[t]["attack"], attacks[t].get("steps")) for t, _ in own} for own in groups]
    assert all(len(kind) == 1 for kind in kinds)
    assert sorted(map(len, groups)) == [2, 3, 3, 4]  # 6 of PGD as 4 + 2
    for target in attacks:
        assert [row for t, row in chain(*groups) if t == target] == [0, 2, 5]


@cache
def centred():
    """The base network, so that it predicts now this class, now that one."""
    network, images = copy.deepcopy(base()), torch.rand(20, *SHAPE, generator=generator(0, "any"))
    network.logits.bias -= network(images).mean(0)
    return network


def as_it_is(site="L2", input_noise=0.0):
    """The network with its own suffix in every row, which is in memory once."""
    return NoisyNetworks(*split(centred(), site), None, noisy(site).sampler, input_noise)


def copied(networks):
    """The same networks as a stack of equal suffixes."""
    own = stack([networks.suffix] * len(networks.sampler.scale))
    return replace(networks, parameters=own)


@SITES
@INPUT_NOISE
def test_a_network_as_it_is_gives_the_records_of_a_stack_of_equal_suffixes(data, site, input_noise):
    """Regime inference."""
    networks, test = as_it_is(site, input_noise), trial(data, BUDGETS)
    found, expected = evaluate(networks, test), evaluate(copied(networks), test)
    pd.testing.assert_frame_equal(found, expected)
    by_row = found.groupby("arm")[["prediction", "draws_correct"]].agg(tuple)
    assert len(by_row.drop_duplicates()) == 3  # the rows are not alike
    assert found["prediction"].nunique() > 2


@SITES
def test_a_network_as_it_is_gets_noise_at_test_alone(data, site):
    found = evaluate(as_it_is(site), trial(data))
    quiet = found[(found["arm"] == "none") & (found["target"] == "snow@5")]
    assert quiet["prediction"].tolist() == centred()(data[1]).argmax(-1).tolist()


def test_a_network_as_it_is_is_tested_under_targets_of_some_rows(data):
    targets = {"clean@0": [0, 1, 2], "snow@5": [2], "pgd@0.1": [2, 0], "pgd@0.02": [0]}
    test = trial(data, ["pgd"], targets)
    found, expected = evaluate(as_it_is(), test), evaluate(copied(as_it_is()), test)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_network_as_it_is_is_attacked_as_a_stack_of_equal_suffixes(data, name):
    """A row may stand several times."""
    rows, epsilons = [2, 0, 2, 1], [0.05, 0.1, 0.2, 0.02]
    found, expected = (
        craft(networks, data, name, rows, epsilons) for networks in (as_it_is(), copied(as_it_is()))
    )
    torch.testing.assert_close(found, expected)


# networks cut inside a residual block: states hold more than h

COLOUR = (3, 12, 12)
INSIDE, BEHIND = "layer2.0.relu1", "layer3"


@cache
def residual():
    """A small residual network with random weights, and statistics of BatchNorm that are not 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = resnet(8)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    network.requires_grad_(False).eval().linear.bias -= network(colour()).mean(0)
    return network  # which predicts now this class, now that one


def colour():
    return torch.rand(7, *COLOUR, generator=torch.Generator().manual_seed(4))


@cache
def residual_cut(site):
    found = cut(residual(), site, COLOUR)
    found.suffix.requires_grad_(False)
    return found


def residual_noisy(site, rows=(0, 1, 2), parameters=None):
    found = residual_cut(site)
    chosen = [[noises(found.shape.numel())[row]] for row in rows]
    sampler = NoiseSampler.of(chosen, CPU, seed=SEED, trials=[TRIAL])
    return NoisyNetworks(found.prefix, found.suffix, parameters, sampler)


def retrained(site):
    """Three suffixes of other weights and statistics."""
    once = stack([residual_cut(site).suffix] * 3)
    factors = torch.tensor([1.0, 1.2, 0.8])
    return {
        name: values * factors.reshape(-1, *[1] * (values.dim() - 1))
        if values.is_floating_point()
        else values
        for name, values in once.items()
    }


def by_hook(site, images, noise, suffix):
    """Logits of the whole network, with the weights of a suffix, under noise (B, d) by a hook."""
    network = copy.deepcopy(residual())
    network.load_state_dict(network.state_dict() | suffix)
    place = network.get_submodule(site)
    handle = place.register_forward_hook(lambda _, __, h: h + noise.reshape(h.shape))
    logits = network(images)
    handle.remove()
    return logits


@pytest.fixture(scope="module")
def photographs():
    return colour(), torch.randint(0, 10, (7,), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("own", [False, True], ids=["as it is", "retrained"])
@pytest.mark.parametrize("site", [INSIDE, BEHIND, "layer1"])
def test_noise_behind_a_cut_is_noise_at_the_site_of_the_whole_network(photographs, site, own):
    images, labels = photographs
    parameters = retrained(site) if own else None
    networks = residual_noisy(site, parameters=parameters)
    found = score(networks, {"t": View([0, 1, 2], images)}, labels, INDICES, passes=PASSES)["t"]
    draw = networks.noise("evaluation noise")
    stacked = images.expand(3, *images.shape)
    for row in range(3):
        suffix = {name: values[row] for name, values in (parameters or {}).items()}
        every = [by_hook(site, images, draw(k, INDICES)[row], suffix) for k in range(PASSES)]
        assert_are(found, row, torch.stack(every), labels)
        torch.testing.assert_close(networks.logits(stacked, draw(0, INDICES))[row], every[0])
    assert len({tuple(row.tolist()) for row in found.prediction}) == 3


def test_the_site_inside_a_block_has_a_state_of_more_than_h():
    assert residual_cut(INSIDE).beside
    assert not residual_cut(BEHIND).beside


@pytest.mark.parametrize("own", [False, True], ids=["as it is", "retrained"])
@pytest.mark.parametrize("site", [INSIDE, BEHIND])
def test_an_attack_behind_a_cut_sees_the_whole_network(photographs, site, own):
    """FGM by hand, through the hook."""
    images, labels = photographs
    parameters = retrained(site) if own else None
    networks = residual_noisy(site, parameters=parameters)
    options = {"attack": "fgm", "rows": [2, 1], "epsilons": [0.1, 0.1], "budget": {}}
    found = attacked(networks, images, labels, INDICES, **options)
    draw = networks.noise("attack noise")
    for crafted, row in zip(found, [2, 1], strict=True):
        suffix = {name: values[row] for name, values in (parameters or {}).items()}
        point = images.clone().requires_grad_()
        logits = by_hook(site, point, draw(0, INDICES)[row], suffix)
        cross_entropy(logits, labels, reduction="sum").backward()
        expected = (images + 0.1 * point.grad.sign()).clamp(0, 1)
        assert (crafted - expected).abs().gt(1e-6).double().mean() < 0.002  # gradients next to 0


# noise at the logits


def logit_noise(networks, images, count):
    """Draws (R, count, classes) of what the noise does to the logits of one image."""
    values, drawn = networks.head(images[:1]), networks.noise("evaluation noise")
    noise = networks.head_of_noise(drawn(0, torch.arange(count)), networks.hidden(images).shape[1:])
    return (networks.tail(values + noise) - networks.tail(values)).double()


@pytest.mark.parametrize("site", [BEHIND, "pool"])
def test_noise_at_the_logits_is_distributed_as_that_of_the_site(photographs, site):
    """Its Σ, and the empirical ones of either: off by about √((tr² + ‖Σ‖²)/n) in Frobenius norm."""
    networks, n = residual_noisy(site), 4000
    shortened = networks.at_logits(residual_cut(site).shape)
    assert shortened.sampler.scale.shape == (3, 1, 10)
    draws = [logit_noise(own, photographs[0], n) for own in (networks, shortened)]
    for row, factor in enumerate(shortened.sampler.factors):
        sigma = (factor[0] @ factor[0].mT).double()
        error = float(((sigma.trace() ** 2 + sigma.square().sum()) / n).sqrt())
        for noise in draws:
            found = noise[row].mT @ noise[row] / n
            assert float((found - sigma).norm()) <= 2 * error + 1e-6
            assert float(noise[row].mean(0).norm()) <= 2 * float((sigma.trace() / n).sqrt()) + 1e-6
        assert bool(sigma.any()) == (row > 0)


def test_noise_at_the_logits_is_of_the_structure_of_each_row(photographs):
    """Else the bounds above could be too wide to tell: rows are farther from each other than they allow."""
    shortened = residual_noisy(BEHIND).at_logits(residual_cut(BEHIND).shape)
    sigmas = [(f[0] @ f[0].mT).double() for f in shortened.sampler.factors[1:]]
    n, same = 4000, [sigma / sigma.trace() for sigma in sigmas]
    error = max(float(((1 + s.square().sum()) / n).sqrt()) for s in same)
    assert float((same[0] - same[1]).norm()) > 4 * error


def test_records_of_noise_at_the_logits_are_those_of_the_site_but_for_the_draws(photographs):
    """Shares of right draws of each row, over images and 400 passes: binomial, by the worst case."""
    images, _ = photographs
    labels = residual()(images).argmax(-1)
    rows, passes = [("a", "none"), ("a", "identity"), ("b", "full")], 400
    view = {"clean@0": [0, 1, 2]}
    test = Test(rows, view, images, {"clean@0": images}, {}, labels, INDICES, passes)
    networks = residual_noisy(BEHIND)
    found, expected = (
        evaluate(own, test).set_index(["arm", "image"])["draws_correct"] / passes
        for own in (networks.at_logits(residual_cut(BEHIND).shape), networks)
    )
    assert (found["none"] == 1).all()
    assert (expected["none"] == 1).all()
    assert (found - expected).abs().max() < 4 * (2 * 0.25 / passes) ** 0.5
    assert expected["identity"].between(0.05, 0.95).any()
    assert expected["full"].between(0.05, 0.95).any()


def test_noise_at_the_logits_belongs_to_trial_pass_and_image(photographs):
    networks = residual_noisy(BEHIND).at_logits(residual_cut(BEHIND).shape)
    draw = networks.noise("evaluation noise")
    assert torch.equal(draw(3, INDICES.flip(0)), draw(3, INDICES).flip(1))
    assert not torch.isclose(draw(2, INDICES)[1:], draw(3, INDICES)[1:]).any()


def test_an_attack_sees_the_noise_at_the_logits(photographs):
    """The gradient of the network's own logits plus the draw."""
    images, labels = photographs
    networks = residual_noisy(BEHIND).at_logits(residual_cut(BEHIND).shape)
    options = {"attack": "fgm", "rows": [2], "epsilons": [0.1], "budget": {}}
    (found,) = attacked(networks, images, labels, INDICES, **options)
    point = images.clone().requires_grad_()
    noise = networks.noise("attack noise")(0, INDICES)[2]
    cross_entropy(residual()(point) + noise, labels, reduction="sum").backward()
    torch.testing.assert_close(found, (images + 0.1 * point.grad.sign()).clamp(0, 1))


@pytest.mark.parametrize(
    "networks",
    [
        lambda: residual_noisy(BEHIND, parameters=retrained(BEHIND)),
        lambda: residual_noisy("layer1"),
        lambda: residual_noisy(BEHIND, rows=[0]),
    ],
    ids=["suffixes of their own", "suffix that is not linear", "no noise"],
)
def test_noise_stays_at_the_site(networks):
    own = networks()
    shape = torch.Size([16, 12, 12]) if own.sampler.scale.shape[-1] == 2304 else (64, 3, 3)
    assert own.at_logits(torch.Size(shape)) is own


def test_noise_at_the_last_layer_of_a_trained_network_is_exact_too(data):
    networks = as_it_is("L5")
    shortened = networks.at_logits(torch.Size([16]))
    weight = networks.suffix.logits.weight.double()
    for factor, own in zip(noises(16), shortened.sampler.factors, strict=True):
        expected = weight @ dense(factor) @ weight.mT
        torch.testing.assert_close((own[0] @ own[0].mT).double(), expected, rtol=1e-4, atol=1e-5)
    silent = torch.zeros(3, 7, 10)
    images = data[1].expand(3, *data[1].shape)
    torch.testing.assert_close(shortened.logits(images, silent)[1], centred()(data[1]))


# how many images at once


def asked(monkeypatch, networks, test):
    """Return the bytes of one image that an evaluation reckons with."""
    given = []
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "images_at_once", lambda device, each: given.append(each) or 3)
        records = evaluate(networks, test)
    pd.testing.assert_frame_equal(sort(records), sort(evaluate(networks, test)))
    return given[0]


def test_images_at_once_fit_the_activations_of_all_rows(monkeypatch, data):
    three = asked(monkeypatch, noisy(), trial(data))
    d = noisy().sampler.scale.shape[-1]
    assert three >= 4 * 3 * 2 * d  # states and noise, in float32
    one = replace(trial(data), rows=ROWS[:1], targets=ONE)
    assert asked(monkeypatch, noisy(rows=[0]), one) == three // 3


def test_images_at_once_fit_the_gradients_of_an_attack(monkeypatch, data):
    large = replace(noisy(), units=10**6)
    plain, crafted = (asked(monkeypatch, large, trial(data, own)) for own in ((), ["fgm"]))
    assert plain == asked(monkeypatch, noisy(), trial(data))
    assert crafted >= 4 * 2 * 10**6  # outputs of all layers, and their gradients


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_images_at_once_are_few_where_each_is_large(device):
    kind, room = torch.device(device), ROOM[device]
    assert images_at_once(kind, 0) == images_at_once(kind, 1000) == BATCH[device]
    assert images_at_once(kind, room // 10) == 10
    assert images_at_once(kind, room // 10 + 1) == 9
    assert images_at_once(kind, 10 * room) == 1


def test_attacks_on_large_networks_come_in_smaller_stacks(monkeypatch, data):
    """No more rows at once than there is room for the outputs of all their layers."""
    sizes, whole = [], evaluation.attacked

    def spied(*given, rows, **options):
        sizes.append(len(rows))
        return whole(*given, rows=rows, **options)

    monkeypatch.setattr(evaluation, "attacked", spied)
    test = trial(data, ["fgm"])
    expected = evaluate(noisy(), test)
    assert sizes == [3]
    large = replace(noisy(), units=ROOM["cpu"] // (4 * COPIES * 7 * 2))  # two on 7 images
    pd.testing.assert_frame_equal(evaluate(large, test, batch_size=7), expected)
    assert sizes[1:] == [2, 1]


def test_without_any_noise_the_records_are_the_networks_predictions(data):
    records = evaluate(noisy(rows=[0]), replace(trial(data), rows=ROWS[:1], targets=ONE))
    own = suffixes("L2")[0](split(base(), "L2")[0](data[1])).argmax(-1)
    snow = records[records["target"] == "snow@5"]
    assert snow["prediction"].tolist() == own.tolist()
    assert snow["draws_correct"].tolist() == (PASSES * (own == data[2])).tolist()


ONE = {"clean@0": [0], "snow@5": [0]}


def test_accuracy_counts_right_predictions():
    images = torch.eye(4).reshape(4, 1, 2, 2)
    network = torch.nn.Flatten()  # predicts the place of the white pixel
    assert accuracy(network, images, torch.tensor([0, 1, 2, 0]), CPU) == 0.75
