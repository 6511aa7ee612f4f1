"""The JSON schema of a study file, for editors: completion, descriptions, and faults as one writes.

    PYTHONPATH=scripts python -m noisetransfer.study_schema studies/study.schema.json

writes it (`make schema`). Imports no torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from noisetransfer.config import Study

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema


class _Generator(GenerateJsonSchema):
    schema_dialect = "http://json-schema.org/draft-07/schema#"  # which every editor knows

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Leave titles out: they repeat the keys."""
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Refuse the keys that match no pattern, as pydantic does."""
        found = super().dict_schema(schema)
        return found | ({"additionalProperties": False} if "patternProperties" in found else {})


def study_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 7) of a study file.

    What it refuses `config.load` refuses, but for unusual spellings of numbers; faults between sections,
    such as the name of a suite that there is not, are found by `config.load` alone.
    """
    found = Study.model_json_schema(schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, "title": "Study of noisetransfer", **found}


def text() -> str:
    """Return the content of the schema's file."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text())
