"""The only door to OpenVINO: importing it here sends nothing anywhere.

`import openvino` imports its conversion tools, and those report the import to
a web analytics service (openvino_telemetry 2025.2: client id in ~/intel, one
HTTP request from a forked child) unless the user has opted out by hand. The
tools fall back to an empty stub where that package is absent, so it is made
absent for this process. A test watches for sockets, forks and threads.
"""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any


def import_openvino() -> ModuleType:
    """Import OpenVINO with its telemetry off.

    Returns:
        The module `openvino`.

    Raises:
        ImportError: OpenVINO is not installed; the caller picks another engine.
    """
    # None is Python's own mark for 'this import fails'. setdefault would keep
    # a telemetry that somebody else has started: it has reported already.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


@lru_cache(maxsize=1)
def the_core() -> Any:
    """Return the process's only `openvino.Core`, which lives as long as the process.

    The first compilation gives the thread that asks for it a stack for signals, and the
    end of the last core frees that stack. In another thread than the first it would leave
    the first one with a stack that is gone: the next Ctrl-C would crash (OpenVINO 2026.4).

    Raises:
        ImportError: OpenVINO is not installed; the caller picks another engine.
        RuntimeError: it does not load.
    """
    return import_openvino().Core()
