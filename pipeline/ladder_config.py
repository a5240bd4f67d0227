"""The ladder as a YAML writes it: `auto`, `off`, or rungs, best first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from lsd.pipeline.config_fields import SizeField
from lsd.pipeline.config_problems import dotted, got
from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Ladder, RungSpec
from lsd.pipeline.strict import Strict
from lsd.pipeline.yaml_locations import Document, KeyPath, Problem

REUSE = "reuse"
_EXAMPLE = "[{steps: 2}, {steps: 1, size: 192x192}, reuse]"
_MOST_RUNGS, _MOST_STEPS = 16, 20


class RungConfig(Strict):
    """One way to make a frame; what is left out is as the pipeline has it."""

    steps: int | None = Field(None, ge=1, le=_MOST_STEPS, description="Denoise steps")
    size: SizeField | None = Field(None, description="WIDTHxHEIGHT that the network works on")


def _rung(value: Any, handler: Any) -> RungSpec:
    if value == REUSE:
        return RungSpec(is_reuse=True)
    if not isinstance(value, dict):
        text = f"expected {REUSE} or a mapping with steps and size, got {got(value)}"
        raise PydanticCustomError("ladder", "{text}", {"text": text})
    read: RungConfig = handler(value)
    return RungSpec(read.steps, read.size)


_RUNGS: TypeAdapter[list[Any]] = TypeAdapter(
    Annotated[
        list[Annotated[RungConfig, WrapValidator(_rung)]],
        Field(min_length=1, max_length=_MOST_RUNGS),
    ]
)


def _ladder(value: Any) -> Ladder:
    if value == "auto" or value == "off" or isinstance(value, tuple):
        return value  # type: ignore[no-any-return]
    if not isinstance(value, list):
        text = f"expected auto, off or rungs such as {_EXAMPLE}, got {got(value)}"
        raise PydanticCustomError("ladder", "{text}", {"text": text})
    return tuple(_RUNGS.validate_python(value))


def _plain(ladder: Ladder) -> Any:
    if isinstance(ladder, str):
        return ladder
    return [REUSE if spec.is_reuse else _written(spec) for spec in ladder]


def _written(spec: RungSpec) -> dict[str, Any]:
    given = {"steps": spec.steps, "size": None if spec.size is None else str(spec.size)}
    return {name: value for name, value in given.items() if value is not None}


LadderField = Annotated[
    Ladder,
    PlainValidator(_ladder),
    PlainSerializer(_plain),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto", "off"]},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": _MOST_RUNGS,
                    "items": {
                        "anyOf": [
                            {"const": REUSE},
                            {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "steps": {
                                        "type": "integer",
                                        "minimum": 1,
                                        "maximum": _MOST_STEPS,
                                    },
                                    "size": {"type": "string", "pattern": r"^\d+x\d+$"},
                                },
                            },
                        ]
                    },
                },
            ]
        }
    ),
]


def ladder_problems(ladder: Ladder, size: Size, document: Document) -> Iterator[Problem]:
    """Yield a line for each rung that does not fit the pipeline or its place."""
    if isinstance(ladder, str):
        return
    for number, spec in enumerate(ladder):
        path: KeyPath = ("ladder", number)
        if spec.is_reuse and number == 0:
            text = f"expected a rung that makes a picture before {REUSE}"
        elif spec.is_reuse and number < len(ladder) - 1:
            text = f"expected {REUSE} as the last rung; no stream stays on it"
        elif spec.size is not None and any(a > b for a, b in zip(spec.size, size, strict=True)):
            path = (*path, "size")
            text = f"expected at most the pipeline's size {size}, got {spec.size}"
        else:
            continue
        where = document.where(path)
        # A flag's own text names the path that it set, but none inside it.
        shown = f" ({dotted(path)})" if where.line or path not in document.values else ""
        yield Problem(where, f"{text}{shown}")
