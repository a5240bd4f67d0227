"""Fields that several parts of a pipeline's description have in common."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from lsd.pipeline.config_problems import got
from lsd.pipeline.frame import Size

SIZE_STEP, SIZE_MIN, SIZE_MAX = 16, 64, 1024
METRICS_PORT = 9464
_MOST_CORES = 4096


def _size(value: Any) -> Size:
    if isinstance(value, Size):
        return value
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError(
            "size", "expected WIDTHxHEIGHT such as 256x256, got {found}", {"found": repr(value)}
        )
    size = Size(int(match[1]), int(match[2]))
    if any(side % SIZE_STEP or not SIZE_MIN <= side <= SIZE_MAX for side in size):
        near = Size(*(min(max(round(s / SIZE_STEP) * SIZE_STEP, SIZE_MIN), SIZE_MAX) for s in size))
        raise PydanticCustomError(
            "size",
            f"expected sides that are multiples of {SIZE_STEP} from {SIZE_MIN} to {SIZE_MAX}, "
            f"got {size}; the nearest is {near}",
        )
    return size


SizeField = Annotated[
    Size,
    PlainValidator(_size),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+x\d+$"}),
]


def _cores(value: Any) -> Any:
    if value in ("auto", "all"):
        return value
    is_list = isinstance(value, list) and 0 < len(value) <= _MOST_CORES
    if is_list and all(type(core) is int and 0 <= core < _MOST_CORES for core in value):
        return value
    raise ValueError(f"expected auto, all or a list such as [0, 1], got {got(value)}")


CoresField = Annotated[
    Literal["auto", "all"] | list[int],
    PlainValidator(_cores),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto", "all"]},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": _MOST_CORES - 1},
                    "minItems": 1,
                },
            ]
        }
    ),
]
