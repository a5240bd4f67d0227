"""What flags of the command line change in a pipeline before it is validated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.registry import Registry
from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.yaml_locations import Document, Problem, Where, parse_yaml


class Override(Protocol):
    """One change; an error about what it set names the flag."""

    def apply(self, document: Document, registry: Registry) -> None:
        """Change `document.data`, which is a dict.

        Raises:
            ConfigError: the pipeline has no such place.
        """


@dataclass(frozen=True, slots=True)
class SetPath:
    """`--set path=value`: set whatever a dotted path names, the value as in YAML."""

    text: str

    def apply(self, document: Document, registry: Registry) -> None:
        flag = f"--set {self.text}"
        dotted, equals, raw = self.text.partition("=")
        path = tuple(dotted.strip().split("."))
        if not equals or not all(path):
            raise ConfigError(
                f"{flag}: expected PATH=VALUE, for example --set stages.diffusion.steps=2"
            )
        try:
            value = parse_yaml(raw, "value")
        except ConfigError as error:  # the place inside a one-line value helps nobody
            raise ConfigError(f"{flag}: {str(error).partition(': ')[2]}") from error
        reach(document, path, flag)
        document.put(path, value.data, Where(flag))
        document.problems += [Problem(Where(flag), problem.text) for problem in value.problems]


@dataclass(frozen=True, slots=True)
class SetValue:
    """A flag such as `--metrics-port N`: set the one place in a pipeline that it stands for."""

    flag: str
    path: tuple[str, ...]
    value: Any

    def apply(self, document: Document, registry: Registry) -> None:
        reach(document, self.path, self.flag)
        document.put(self.path, self.value, Where(self.flag))


def reach(document: Document, path: tuple[str, ...], flag: str) -> None:
    """Make sure that the mapping around `path` exists; the YAML may have left it out.

    Args:
        document: its data is a dict.
        path: what is going to be put there.
        flag: who wants it, for messages.

    Raises:
        ConfigError: there is no such stage, or something else than a mapping is in the way.
    """
    stages = document.data.get("stages")
    if path[0] == "stages" and len(path) > 1 and isinstance(stages, dict) and path[1] not in stages:
        # Where in the order it would go, nobody could tell.
        hint = did_you_mean(path[1], stages, "the stages are")
        raise ConfigError(f"{flag}: {document.name} has no stage {path[1]!r}; {hint}")
    parent = document.data
    for depth, part in enumerate(path[:-1], start=1):
        if parent.setdefault(part, {}) is None:
            parent[part] = {}
        parent = parent[part]
        if not isinstance(parent, dict):
            at = ".".join(path[:depth])
            raise ConfigError(f"{flag}: {at} is no mapping, it has nothing inside it to set")


@dataclass(frozen=True, slots=True)
class SetOption:
    """A flag such as `--prompt TEXT`: set the option of every stage that has it."""

    flag: str
    option: str
    value: Any

    def apply(self, document: Document, registry: Registry) -> None:
        where = Where(self.flag)
        names = list(_stages_with(self.option, document, registry))
        if not names and not _all_known(document, registry):
            return  # a stage of unknown kind is an error of its own, said by the validation
        if not names:
            raise ConfigError(f"{where}: no stage of {document.name} has an option {self.option!r}")
        for name in names:
            stages = document.data["stages"]
            if stages[name] is None:
                stages[name] = {}
            value = self.value
            if isinstance(value, dict):  # weights add to what the YAML gives
                old = stages[name].get(self.option)
                value = {**(old if isinstance(old, dict) else {}), **value}
            document.put(("stages", name, self.option), value, where)


def _stages_with(option: str, document: Document, registry: Registry) -> Iterator[str]:
    for name, kind in _kinds(document):
        if kind in registry.kinds() and option in registry.stage(kind).Options.model_fields:
            yield name


def _all_known(document: Document, registry: Registry) -> bool:
    found = list(_kinds(document))
    return bool(found) and all(kind in registry.kinds() for _, kind in found)


def _kinds(document: Document) -> Iterator[tuple[str, str]]:
    """Yield name and kind of the stages that are readable at all."""
    stages = document.data.get("stages")
    for name, item in stages.items() if isinstance(stages, dict) else ():
        if item is None or isinstance(item, dict):
            yield name, str((item or {}).get("kind", name))


def seconds(text: str) -> float:
    """Read a duration.

    >>> seconds("10s"), seconds("1.5m"), seconds("500ms"), seconds("3")
    (10.0, 90.0, 0.5, 3.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text.strip())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--duration {text}: expected a time such as 10s, 500ms, 2m or 1h")
    return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2] or "s"]
