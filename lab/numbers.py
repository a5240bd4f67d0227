"""What a benchmark measured, as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsd.pipeline.errors import ConfigError


def write_numbers(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, with the folders that it needs; nothing without a path.

    Raises:
        ConfigError: it cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
