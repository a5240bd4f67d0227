"""What `instances:` of a pipeline file says: copies of the pipeline, and what is each one's own."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from lsd.pipeline.config_fields import METRICS_PORT
from lsd.pipeline.config_problems import got
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.overrides import reach
from lsd.pipeline.yaml_locations import Document, Where

PLACEHOLDER = "{instance}"
_MOST = 64
_LONGEST_NAME = 64  # of a pipeline
_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
_SHARED = ("instances", "name", "supervision")  # one for all
_PORT = re.compile(r"(?P<address>[a-z]+://[^/?]*:)(?P<port>\d+)(?P<rest>.*)", re.IGNORECASE)
_FORMS = "a number such as 4, names such as [hall, yard], or names with what is each one's own"

Changes = Mapping[str, Any]


def _named(value: Any) -> Any:
    """Let instances be their number, or their names."""
    if isinstance(value, bool) or not isinstance(value, int | list | dict):
        raise ValueError(f"expected {_FORMS}, got {got(value)}")
    if isinstance(value, int):
        if not 1 <= value <= _MOST:
            raise ValueError(f"expected 1 to {_MOST} instances, got {value}")
        return {str(number): {} for number in range(1, value + 1)}
    if isinstance(value, list):
        strange = [each for each in value if not isinstance(each, str)]
        if strange:
            raise ValueError(f"expected names, got {got(strange[0])}")
        twice = [each for place, each in enumerate(value) if each in value[:place]]
        if twice:
            raise ValueError(f"instance {twice[0]!r} is named twice; remove one")
        return {name: {} for name in value}
    return {name: {} if own is None else own for name, own in value.items()}


_NAME = Annotated[str, Field(pattern=_PATTERN)]
InstancesField = Annotated[
    dict[_NAME, dict[str, Any]],
    Field(min_length=1, max_length=_MOST),
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MOST},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": _PATTERN},
                    "minItems": 1,
                    "maxItems": _MOST,
                    "uniqueItems": True,
                },
                {
                    "type": "object",
                    "propertyNames": {"pattern": _PATTERN},
                    "additionalProperties": {"type": ["object", "null"]},
                    "minProperties": 1,
                    "maxProperties": _MOST,
                },
            ]
        }
    ),
]


def instance_documents(document: Document, instances: Mapping[str, Changes]) -> dict[str, Document]:
    """Return the document of each instance: the pipeline's, changed for it.

    In this order: outputs and ports get names of their own, what the instance says is put in the
    place of what the pipeline does, and `{instance}` becomes its name in every text.

    Args:
        document: the whole, which is valid as a pipeline.
        instances: name -> dotted path -> value.

    Raises:
        ConfigError: a change leads nowhere, or to what all instances have in common.
    """
    found, problems = {}, []
    for place, (name, changes) in enumerate(instances.items()):
        each = Document(
            document.name, copy.deepcopy(document.data), {**document.keys}, {**document.values}
        )
        for shared in _SHARED:
            each.data.pop(shared, None)
        if isinstance(each.data.get("cores"), list):
            del each.data["cores"]  # they are there to be shared out
        _keep_apart(each.data, name, place)
        for path, value in changes.items():
            where = document.where(("instances", name, path), key=True)
            try:
                _change(each, path, copy.deepcopy(value), where)
            except ConfigError as error:
                problems.append(str(error))
        each.data = _filled(each.data, name)
        called = document.data.get("name", "pipeline")[: _LONGEST_NAME - 1 - len(name)]
        each.data["name"] = f"{called}-{name}"
        found[name] = each
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def located(problems: ConfigError, name: str) -> Iterator[str]:
    """Yield the lines of an error about the instance `name`, and say which it is."""
    for line in str(problems).splitlines():
        yield f"{line} (instance {name})"


def own_output(uri: str, name: str, place: int) -> str:
    """Return what becomes of an output of the pipeline in the instance that has that place.

    >>> own_output("out/demo.mp4", "hall", 0), own_output("out/frames/", "2", 1)
    ('out/demo-hall.mp4', 'out/frames-2/')
    >>> own_output("mjpeg://127.0.0.1:8090?public=1", "2", 1)
    'mjpeg://127.0.0.1:8091?public=1'
    """
    if PLACEHOLDER in uri:
        return uri
    address = _PORT.fullmatch(uri)
    if address is not None:
        port = int(address["port"])
        return f"{address['address']}{port + place if port else 0}{address['rest']}"
    if "://" in uri and not uri.startswith("file://"):
        return uri
    folder = "/" if uri.endswith("/") else ""
    path = PurePath(uri)
    own = f"{path.stem}-{name}{path.suffix}"
    # Not by way of a path: file:///out would lose two of its slashes.
    return f"{uri.rstrip('/').removesuffix(path.name)}{own}{folder}"


def _keep_apart(data: dict[str, Any], name: str, place: int) -> None:
    """Give an instance's outputs and ports names of their own."""
    for options in data["stages"].values():
        outputs = options.get("outputs") if isinstance(options, dict) else None
        if outputs:
            options["outputs"] = [own_output(uri, name, place) for uri in outputs]
    metrics = data.get("metrics")
    if isinstance(metrics, dict) and metrics.get("port") != 0:
        metrics["port"] = metrics.get("port", METRICS_PORT) + place


def _change(document: Document, path: str, value: Any, where: Where) -> None:
    parts = tuple(path.split("."))
    if not all(parts):
        raise ConfigError(
            f"{where}: expected a path such as stages.capture.input, got {path!r} (instances)"
        )
    if parts[0] in _SHARED:
        raise ConfigError(f"{where}: all instances have one {parts[0]!r}; remove it ({path})")
    if parts[0] == "stages" and len(parts) < 3:
        raise ConfigError(
            f"{where}: expected a whole path such as stages.capture.input, got {path!r} (instances)"
        )
    reach(document, parts, str(where))
    document.put(parts, value, where)


def _filled(value: Any, name: str) -> Any:
    """Put the instance's name wherever a text asks for it."""
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, name)
    if isinstance(value, list):
        return [_filled(each, name) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, name) for key, each in value.items()}
    return value
