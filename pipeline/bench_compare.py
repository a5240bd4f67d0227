"""Two results of `livesd bench` side by side; pure, but for the reading of the older."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lsd.pipeline.errors import ConfigError

FORMAT = "livesd bench 1"
# What may differ between two runs that are to be compared, or differs in every one of them.
_ALWAYS_OTHER = ("load",)


def read_result(path: Path) -> dict[str, Any]:
    """Read what `-o` has written.

    Raises:
        ConfigError: there is no such file, or it is none of ours.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--compare {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--compare {path}: is no JSON ({error})") from error
    mark = found.get("format") if isinstance(found, dict) else None
    if mark != FORMAT:
        raise ConfigError(
            f"--compare {path}: expected a file that `livesd bench -o` has written "
            f"(format {FORMAT!r}), got format {mark!r}"
        )
    return dict(found)


def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row for the whole, each stage and the rest: old, new, new over old."""
    before, after = dict(_parts(old)), dict(_parts(new))
    rows = []
    for name in [*after, *(name for name in before if name not in after)]:
        row = {"ms": name}
        for percentile in ("p50", "p99"):
            was, now = (each.get(name, {}).get(percentile) for each in (before, after))
            row[f"old {percentile}"], row[f"new {percentile}"] = _text(was), _text(now)
            row[f"ratio {percentile}"] = f"{now / was:.2f}" if was and now is not None else "-"
        rows.append(row)
    return rows


def ratio(old: Mapping[str, Any], new: Mapping[str, Any]) -> float | None:
    """Return what a whole frame takes now over what it took, by the medians."""
    was, now = old["whole_ms"]["p50"], new["whole_ms"]["p50"]
    return now / was if was and now is not None else None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say where the two differ in what they ran, and on what machine; a line each."""
    return [
        f"{name}: {was} -> {now}"
        for section in ("machine", "run")
        for name, was, now in _changed(old.get(section, {}), new.get(section, {}), section)
    ]


def _changed(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str
) -> Iterator[tuple[str, Any, Any]]:
    for key in [*new, *(key for key in old if key not in new)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _changed(was, now, f"{path} {key}")
        elif was != now and key not in _ALWAYS_OTHER:
            yield f"{path} {key}", was, now


def _parts(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "a frame", result["whole_ms"]
    for name, stage in result["stages"].items():
        yield name, stage["service_ms"]
    yield "the rest", result["overhead_ms"]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
