"""Turns what pydantic found wrong into lines that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.yaml_locations import Document, KeyPath, Problem

Fields = Mapping[tuple[str, ...], list[str]]

# pydantic's error type -> what the user should have written.
_EXPECTED = {
    "bool": "bool (true or false)",
    "int": "int",
    "float": "float",
    "string": "str",
    "list": "list",
    "tuple": "list",
    "set": "list",
    "dict": "mapping",
    "model": "mapping",
    "mapping": "mapping",
}
_LIMIT = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_LENGTH = {
    "too_short": ("at least", "min_length", "entries"),
    "too_long": ("at most", "max_length", "entries"),
    "string_too_short": ("at least", "min_length", "characters"),
    "string_too_long": ("at most", "max_length", "characters"),
}


def problems_of(error: ValidationError, document: Document, fields: Fields) -> Iterator[Problem]:
    """Yield a located line for everything that `error` holds."""
    for details in error.errors(include_url=False):
        path: KeyPath = details["loc"]
        at_key = details["type"] == "extra_forbidden"
        if path and path[-1] == "[key]":  # pydantic's mark for 'the key itself is wrong'
            path, at_key = path[:-1], True
        path = _worker_path(path, document)
        if details["type"] == "stage_kind":
            path = _kind_path(path, document)
            at_key = path[-1] != "kind"
        text = _text(details, path, fields)
        where = document.where(path, key=at_key)
        if path and (where.line or path not in document.values):
            # A flag's own text names the path that it set, but none inside it.
            text = f"{text} ({dotted(path)})"
        yield Problem(where, text)


def feedback_problems(document: Document) -> Iterator[Problem]:
    """Yield a line for each stage that `feedback` names and that does not exist."""
    data = document.data if isinstance(document.data, dict) else {}
    feedback, stages = data.get("feedback"), data.get("stages")
    if not isinstance(feedback, dict) or not isinstance(stages, dict):
        return
    targets = feedback.get("to")
    named: list[tuple[KeyPath, Any]] = [(("feedback", "from"), feedback.get("from"))]
    if isinstance(targets, list):
        named += [(("feedback", "to", i), target) for i, target in enumerate(targets)]
    for path, name in named:
        if isinstance(name, str) and name not in stages:
            hint = did_you_mean(name, stages, "the stages are")
            text = f"no stage is called {name!r}; {hint} ({dotted(path)})"
            yield Problem(document.where(path), text)


def dotted(path: KeyPath) -> str:
    """Write a path as one does in `--set`.

    >>> dotted(("stages", "output", "outputs", 0))
    'stages.output.outputs[0]'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _kind_path(path: KeyPath, document: Document) -> KeyPath:
    written = (*path, "kind")
    return written if written in document.values else path


def _worker_path(path: KeyPath, document: Document) -> KeyPath:
    """Undo that a worker may be just its list of stages."""
    if path[:1] == ("workers",) and path[2:3] == ("stages",) and path[:3] not in document.keys:
        return (*path[:2], *path[3:])
    return path


def _text(details: ErrorDetails, path: KeyPath, fields: Fields) -> str:
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_field(path, fields)
    if kind == "missing":
        return f"the field {str(path[-1])!r} is missing"
    if kind in _LIMIT:
        words, key = _LIMIT[kind]
        return f"expected {words} {_number(context[key])}, got {got(found)}"
    if kind in _LENGTH:
        words, key, unit = _LENGTH[kind]
        return f"expected {words} {context[key]} {unit}, got {got(found)}"
    if kind in ("literal_error", "enum"):
        return _choice(str(context["expected"]), found)
    if kind == "string_pattern_mismatch":
        return f"expected text that matches {context['pattern']}, got {got(found)}"
    expected = _EXPECTED.get(kind.split("_")[0])
    if expected and kind.endswith(("_type", "_parsing", "_from_float", "_attributes_type")):
        return f"expected {expected}, got {got(found)}"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return (
        message
        if kind in ("value_error", "size", "stage_kind", "ladder")
        else f"{message}, got {found!r}"
    )


def _unknown_field(path: KeyPath, fields: Fields) -> str:
    name, parent = str(path[-1]), tuple(str(part) for part in path[:-1])
    known = fields.get(parent)
    hint = f"; {did_you_mean(name, known, 'the fields are')}" if known else ""
    return f"unknown field {name!r}{hint}"


def _choice(expected: str, found: Any) -> str:
    names = expected.replace(" or ", ", ").replace("'", "").split(", ")
    hint = did_you_mean(found, names, "") if isinstance(found, str) else ""
    suffix = f"; {hint}" if hint.startswith("did") else ""
    return f"expected {expected}, got {got(found)}{suffix}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def got(value: Any) -> str:
    """Say what a value is: its type and a short form of it.

    >>> got("two"), got(None), got([1])
    ("str 'two'", 'nothing', 'list [1]')
    """
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing in it'}"[:80]
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
