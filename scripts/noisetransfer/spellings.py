"""How the values of a study are written, as JSON schema, for what an annotation does not tell. No torch.

Whatever one of these refuses `config.py` refuses too, but for unusual spellings of numbers (1e0). What
only the other sections of a study tell, such as the names of its suites, they do not know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from noisetransfer import references
from noisetransfer.architectures import ARCHITECTURES
from noisetransfer.arms import NO_SOURCE, UNSCALED
from noisetransfer.attacks import ATTACKS
from noisetransfer.modifications import MODIFICATIONS, PAIRED
from noisetransfer.modifications import STRENGTHS as BY_KIND
from noisetransfer.plan import OWN
from noisetransfer.variants import IN_TRAINING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noisetransfer.modifications import Modification, Strengths

    Schema = dict[str, Any]

_STRONG = {"corruption": "5", "transform": "2.0", "attack": "0.1", "clean": "0"}
_SHARE = r"(?=[0.]*[1-9])(0?\.\d+|1(\.0*)?|\d(\.\d+)?e-\d+)"
_BUDGET = "[a-z0-9_]+"
_SUITE = "[A-Za-z0-9][A-Za-z0-9_.-]*"


def one_of(names: Iterable[str]) -> Schema:
    """Return a choice of names."""
    return {"type": "string", "enum": list(names)}


def text(pattern: str, examples: Sequence[str] = ()) -> Schema:
    """Return text that matches a pattern as a whole, with examples that an editor offers."""
    offered = {"examples": list(examples)} if examples else {}
    return {"type": "string", "pattern": f"^({pattern})$", **offered}


def one_or_more(listed: Schema) -> Schema:
    """Return a list that may be written as its one entry."""
    return {"anyOf": [listed["items"], listed]}


def _named(entry: Modification) -> str:
    """Return the pattern of a name; an attack may have a budget of its own."""
    return re.escape(entry.name) + (rf"(\.{_BUDGET})?" if entry.kind == "attack" else "")


def _modifications() -> str:
    """Return the pattern of ids: the names that share their strengths, and these."""
    alike: dict[Strengths, list[str]] = {}
    for entry in MODIFICATIONS.values():
        alike.setdefault(entry.strengths, []).append(_named(entry))
    parts = [f"({'|'.join(names)})@({which.written})" for which, names in alike.items()]
    paired = rf"{re.escape(PAIRED)}[a-z0-9_]+@({BY_KIND['paired'].written})"
    return "|".join([*parts, paired])


_IDS = _modifications()
_EXAMPLES = [f"{m.name}@{_STRONG[m.kind]}" for m in MODIFICATIONS.values() if m.kind in _STRONG]
_OWN = rf"{OWN}|({'|'.join(map(_named, MODIFICATIONS.values()))})@{OWN}"
_TARGET = f"{_IDS}|{_SUITE}|{_OWN}"

MODIFICATION = text(_IDS, _EXAMPLES)
UNIT = text(f"{_IDS}|{_SUITE}", _EXAMPLES)
TARGET = text(rf"({_TARGET})(\+({_TARGET}))*", [OWN, *_EXAMPLES])

NETWORK = text(
    rf"{_SUITE}(\+input_noise@{_SHARE}|\+({'|'.join(IN_TRAINING)})@{_SHARE}x{_SHARE})*",
    [f"{name}{change}" for name in ARCHITECTURES for change in ("", "+pgd@0.1x0.5")],
)

BLOCK = {"anyOf": [{"type": "integer", "minimum": 0}, text(r"\d+(-\d+)?", ["0-4"])]}

_ONE_TAU = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        one_of([UNSCALED]),
        text(r"(?=[0.]*[1-9])\d+(\.\d+)?(e[+-]?\d+)?"),
    ]
}
_TAUS = one_or_more({"type": "array", "items": _ONE_TAU, "uniqueItems": True})
TAU = {"anyOf": [*_TAUS["anyOf"], {"type": "object", "additionalProperties": _TAUS}]}

RANK = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 10**9 - 1},
        one_of(["full", "held_out"]),
        text(rf"0*[1-9]\d{{0,8}}|explained@{_SHARE}", ["explained@0.95"]),
    ]
}

ARCHITECTURE = {
    "anyOf": [
        one_of([*ARCHITECTURES, *references.RESNETS]),
        text("(torchvision|timm):[^/]+|robustbench:.+"),
        {"type": "null"},
    ]
}

PRETRAINED = text(
    f"({'|'.join(references.FORMS)}):.+",
    [form.rpartition(" such as ")[2] for form in references.FORMS.values() if " such as " in form],
)

SUITE_NAMES: Schema = {"propertyNames": {"not": {"enum": [OWN, NO_SOURCE]}}}


def budgets() -> Schema:
    """Return the budgets of the attacks, each with its keys."""
    known = {name: attack.budget.model_json_schema() for name, attack in ATTACKS.items()}
    own = {rf"^{name}\.{_BUDGET}$": budget for name, budget in known.items()}
    return {"properties": known, "patternProperties": own, "additionalProperties": False}
