import json
from pathlib import Path

import pytest

from lsd.pipeline.config import PipelineConfig, bundled_configs
from lsd.pipeline.registry import Registry
from lsd.pipeline.schema import json_schema, schema_text

SCHEMA_FILE = Path(__file__).resolve().parent.parent / "configs" / "schema.json"


@pytest.fixture(scope="module")
def schema():
    return json_schema()


def test_schema_file_is_current():
    current = SCHEMA_FILE.read_text(encoding="utf-8")
    assert current == schema_text(), "run: livesd schema -o configs/schema.json"


def test_every_field_has_a_description(schema):
    definitions = [schema, *schema["$defs"].values()]
    missing = [
        f"{definition['title']}.{name}"
        for definition in definitions
        for name, field in definition.get("properties", {}).items()
        if "description" not in field and "$ref" not in field
    ]
    assert not missing


def test_every_option_of_a_stage_says_when_it_applies(schema):
    missing = [
        f"{kind}.{name}"
        for kind in Registry().kinds()
        for name, field in schema["$defs"][f"stage_{kind}"]["properties"].items()
        if name != "kind" and field.get("applies") not in ("live", "restart")
    ]
    assert not missing


def test_every_number_of_a_stage_has_limits(schema):
    missing = [
        f"{kind}.{name}"
        for kind in Registry().kinds()
        for name, field in schema["$defs"][f"stage_{kind}"]["properties"].items()
        if field.get("type") in ("integer", "number")
        and not {"minimum", "exclusiveMinimum"} & field.keys()
    ]
    assert not missing


def test_every_reference_leads_somewhere(schema):
    text = json.dumps(schema)
    for part in text.split('"$ref": "')[1:]:
        name = part.split('"')[0].removeprefix("#/$defs/")
        assert name in schema["$defs"]


def test_a_stage_with_a_name_of_its_own_must_say_its_kind(schema):
    for choice in schema["properties"]["stages"]["additionalProperties"]["oneOf"]:
        assert choice["allOf"][0]["required"] == ["kind"]


def test_schema_has_the_fields_of_the_config(schema):
    assert list(schema["properties"]) == list(PipelineConfig.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", bundled_configs())
def test_configs_name_the_schema_for_editors(name):
    first = bundled_configs()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"
