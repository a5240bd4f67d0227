"""The JSON schema of pipelines, for editors: generated from the options' own limits."""

from __future__ import annotations

import json
from typing import Any

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.registry import Registry


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """Return the schema of a pipeline file with every installed stage kind.

    `stages` is a union that `kind` decides. Since `kind` defaults to the
    stage's name, a stage that is named like a kind is checked as that kind,
    and any other name must say its `kind`.

    Raises:
        ConfigError: an installed stage cannot be imported.
    """
    registry = registry or Registry()
    schema = PipelineConfig.model_json_schema(by_alias=True)
    schema["title"] = "A pipeline of livesd"
    size = schema["properties"]["size"]
    size["default"] = "x".join(map(str, size["default"]))  # pydantic writes a Size as a list
    definitions = schema["$defs"]
    definitions.pop("StageOptions", None)
    kinds = registry.kinds()
    for kind in kinds:
        options = registry.stage(kind).Options.model_json_schema()
        definitions.update(options.pop("$defs", {}))
        options["title"] = f"Stage {kind}"
        options["properties"]["kind"] = {"const": kind, "description": "Which stage this is"}
        options["required"] = [name for name in options.get("required", []) if name != "kind"]
        options["type"] = ["object", "null"]  # `memory:` alone means all defaults
        definitions[f"stage_{kind}"] = options
    stages = schema["properties"]["stages"]
    (name_pattern,) = stages.pop("patternProperties")
    stages["propertyNames"] = {"pattern": name_pattern}
    references = {kind: {"$ref": f"#/$defs/stage_{kind}"} for kind in kinds}
    stages["properties"] = references
    stages["additionalProperties"] = {
        "oneOf": [
            {"allOf": [{"type": "object", "required": ["kind"]}, reference]}
            for reference in references.values()
        ]
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text(registry: Registry | None = None) -> str:
    """Return the schema as configs/schema.json holds it."""
    return json.dumps(json_schema(registry), indent=2, ensure_ascii=False) + "\n"
