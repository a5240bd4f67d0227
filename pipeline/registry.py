"""Finds stages by the `kind` that a YAML names, without importing them first."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.suggest import did_you_mean

if TYPE_CHECKING:
    from lsd.pipeline.stage import Stage

GROUP = "lsd.stages"


class Registry:
    """The stages that are installed; each is imported when it is first asked for.

    Args:
        stages: kind -> class, instead of the installed ones (for tests).
    """

    def __init__(self, stages: Mapping[str, type[Stage]] | None = None) -> None:
        self._loaded: dict[str, type[Stage]] = dict(stages or {})
        self._points: dict[str, EntryPoint] = {}
        if stages is None:
            self._points = {point.name: point for point in entry_points(group=GROUP)}

    def kinds(self) -> list[str]:
        """Return the names of all kinds, sorted."""
        return sorted({*self._loaded, *self._points})

    def stage(self, kind: str) -> type[Stage]:
        """Return the class of `kind`.

        Raises:
            ConfigError: there is none, or its module cannot be imported.
        """
        if kind in self._loaded:
            return self._loaded[kind]
        if kind not in self._points:
            hint = did_you_mean(kind, self.kinds(), "the kinds are")
            raise ConfigError(f"unknown stage kind {kind!r}; {hint}")
        point = self._points[kind]
        try:
            found = cast("type[Stage]", point.load())
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"stage kind {kind!r} ({point.value}) cannot be imported: {error}"
            ) from error
        self._loaded[kind] = found
        return found
