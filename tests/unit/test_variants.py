"""Ids of networks: each is read, and printed in one spelling."""

import re

import pytest

from noisetransfer.errors import StudyError
from noisetransfer.variants import IN_TRAINING, Variant, variant

READ = {
    "v2": Variant("v2"),
    "my-net_2.1": Variant("my-net_2.1"),
    "v2+input_noise@0.1": Variant("v2", input_noise=0.1),
    "v2+input_noise@1.0": Variant("v2", input_noise=1.0),
    "v2+input_noise@1e-05": Variant("v2", input_noise=1e-5),
    "v2+pgd@0.05x0.3": Variant("v2", attack="pgd@0.05", ratio=0.3),
    "v2+fgm@0.1x1.0": Variant("v2", attack="fgm@0.1", ratio=1.0),
    "v2+pgd@1e-05x1e-05": Variant("v2", attack="pgd@1e-05", ratio=1e-5),
    "v2+input_noise@0.2+fgm@1.0x0.5": Variant("v2", 0.2, "fgm@1.0", 0.5),
}


@pytest.mark.parametrize(("id", "read"), READ.items())
def test_an_id_is_read_and_printed_again(id, read):
    assert variant(id) == read
    assert str(read) == id


@pytest.mark.parametrize(
    ("written", "id"),
    [
        ("v2+input_noise@.10", "v2+input_noise@0.1"),
        ("v2+input_noise@1", "v2+input_noise@1.0"),
        ("v2+pgd@1e-1x.5", "v2+pgd@0.1x0.5"),
        ("v2+pgd@1x1", "v2+pgd@1.0x1.0"),
        ("v2+fgm@0.1x0.5+input_noise@0.2", "v2+input_noise@0.2+fgm@0.1x0.5"),
    ],
)
def test_an_id_has_one_spelling(written, id):
    assert str(variant(written)) == id
    assert variant(written) == variant(id)


BAD = {
    "v2+": "'v2+': '' is no change of a network",
    "v2+noise@0.1": "'noise@0.1' is no change of a network",
    "v2+input_noise@0": "'input_noise@0' is no change of a network",
    "v2+input_noise@1.1": "'input_noise@1.1' is no change of a network",
    "v2+input_noise@-0.1": "'input_noise@-0.1' is no change of a network",
    "v2+input_noise@nan": "'input_noise@nan' is no change of a network",
    "v2+input_noise@1.2.3": "'input_noise@1.2.3' is no change of a network",
    "v2+pgd@0.1": "'pgd@0.1' is no change of a network",
    "v2+pgd@0.1x0": "'pgd@0.1x0' is no change of a network",
    "v2+pgd@0.1x1.5": "'pgd@0.1x1.5' is no change of a network",
    "v2+pgd@0.1xe": "'pgd@0.1xe' is no change of a network",
    "v2+pgdx0.5": "'pgdx0.5' is no change of a network",
    "v2+auto_pgd@0.1x0.5": "'auto_pgd@0.1x0.5' is no change of a network",
    "v2+square@0.1x0.5": "'square@0.1x0.5' is no change of a network",
    "v2+snow@5x0.5": "'snow@5x0.5' is no change of a network",
    "v2+pdg@0.1x0.5": "'pdg@0.1': unknown modification 'pdg'; known are gaussian_noise, ",
    "v2+pgd@2x0.5": "'pgd@2': 2 is not allowed; pgd takes an epsilon above 0, up to 1",
    "v2+input_noise@0.1+input_noise@0.2": "the same change twice",
    "v2+pgd@0.1x0.5+fgm@0.1x0.5": "the same change twice",
}


@pytest.mark.parametrize(("id", "complaint"), BAD.items())
def test_a_bad_id_is_named_with_what_is_allowed(id, complaint):
    with pytest.raises(StudyError, match=re.escape(complaint)) as caught:
        variant(id)
    if "no change" in complaint:
        assert f"{id!r}: " in str(caught.value)
        noise, attack = str(caught.value).partition("allowed: ")[2].split(", or ")
        assert noise == "input_noise@σ (0 < σ ≤ 1)"
        assert attack.startswith("an attack")
        assert attack.endswith("such as pgd@0.1x0.5")
        assert re.findall(r"\w+", attack.partition("(")[2].partition(")")[0]) == [*IN_TRAINING]
