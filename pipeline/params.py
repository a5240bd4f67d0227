"""Live parameters: an immutable snapshot that capture stamps on every frame.

A parameter is a field of a stage's options that is marked `live`. Changing
one makes a new snapshot; frames on their way keep the one they were stamped
with, so that no stage ever sees a change inside a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lsd.pipeline.errors import ConfigError


class StageOptions(BaseModel):
    """Options of a stage; every field is marked by `live_field` or `restart_field`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="Which stage this is (a name of the `lsd.stages` entry points)")


def live_field(default: Any, description: str, **limits: Any) -> Any:
    """Declare an option that may change between two frames."""
    return Field(default, description=description, json_schema_extra={"applies": "live"}, **limits)


def restart_field(default: Any, description: str, **limits: Any) -> Any:
    """Declare an option that needs the pipeline to restart."""
    extra: dict[str, Any] = {"applies": "restart"}
    return Field(default, description=description, json_schema_extra=extra, **limits)


OptionsT = TypeVar("OptionsT", bound=StageOptions)


@dataclass(frozen=True, slots=True)
class Params:
    """The options of every stage at one moment.

    Attributes:
        stages: stage name -> its options; never changed after creation.
        version: counts the changes since start.
    """

    stages: Mapping[str, StageOptions]
    version: int = 0

    def of(self, name: str, kind: type[OptionsT]) -> OptionsT:
        """Return the options of stage `name`, which must be a `kind`."""
        options = self.stages[name]
        assert isinstance(options, kind), f"{name} has {type(options).__name__}"
        return options


class ParamStore:
    """Holds the current snapshot; `set` swaps it, from any thread."""

    def __init__(self, stages: Mapping[str, StageOptions]) -> None:
        self._lock = threading.Lock()
        self._current = Params(dict(stages))

    def snapshot(self) -> Params:
        """Return the current snapshot (one attribute read, no lock)."""
        return self._current

    def set(self, stage: str, **changes: Any) -> Params:
        """Change live options of one stage; takes effect on the next captured frame.

        Raises:
            ConfigError: unknown stage or option, a value out of range, or an
                option that needs a restart. Nothing is changed then.
        """
        with self._lock:
            old = self._current
            if stage not in old.stages:
                known = ", ".join(old.stages)
                raise ConfigError(f"params: no stage {stage!r}; the stages are {known}")
            options = old.stages[stage]
            for field in changes:
                _require_live(stage, options, field)
            try:
                new = type(options).model_validate({**options.model_dump(), **changes})
            except ValidationError as error:
                first = error.errors()[0]
                path = ".".join(str(part) for part in first["loc"])
                found = first["input"]
                raise ConfigError(
                    f"params: stages.{stage}.{path}: {first['msg']}, got {found!r}"
                ) from error
            self._current = Params({**old.stages, stage: new}, old.version + 1)
            return self._current


def _require_live(stage: str, options: StageOptions, field: str) -> None:
    info = type(options).model_fields.get(field)
    if info is None:
        raise ConfigError(f"params: stages.{stage} has no option {field!r}")
    extra = info.json_schema_extra
    if not isinstance(extra, dict) or extra.get("applies") != "live":
        raise ConfigError(
            f"params: stages.{stage}.{field} cannot change while running; set it in the YAML "
            "and start again"
        )
