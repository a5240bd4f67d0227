"""What this machine has: cameras, processors, cards, engines."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lsd.pipeline.device import cuda_cards
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.registry import Registry


class Found(NamedTuple):
    """One thing that is there, or that could be.

    Attributes:
        kind: camera, cpu, gpu or engine.
        name: how a YAML or a flag names it.
        about: what it is; where it cannot be used, why.
        is_usable: whether it can be used now.
    """

    kind: str
    name: str
    about: str
    is_usable: bool


def find_devices(registry: Registry | None = None) -> list[Found]:
    """Return everything that a pipeline on this machine could use."""
    found = [*cameras(), processor()]
    found += [Found("gpu", f"cuda:{i}", name, True) for i, name in enumerate(cuda_cards())]
    return found + list(engines(registry or Registry()))


def cameras(dev: Path = Path("/dev"), sys_class: Path = Path("/sys/class")) -> list[Found]:
    """Return the cameras, by the URI that `--input` takes."""
    if sys.platform == "darwin":
        return _asked_of_av("avfoundation")
    if sys.platform == "win32":
        return _asked_of_av("dshow")
    nodes = sorted(dev.glob("video[0-9]*"), key=lambda node: int(node.name[5:] or 0))
    return [_v4l2_camera(node, sys_class / "video4linux" / node.name / "name") for node in nodes]


def _v4l2_camera(node: Path, name_file: Path) -> Found:
    name = name_file.read_text().strip() if name_file.is_file() else "unnamed camera"
    may_use = os.access(node, os.R_OK | os.W_OK)
    if not may_use:
        name += "; no permission (try: sudo usermod -aG video $USER, and log in again)"
    return Found("camera", f"v4l2://{node}", name, may_use)


def _asked_of_av(driver: str) -> list[Found]:
    import av

    try:
        infos = av.enumerate_input_devices(driver)
    except (av.FFmpegError, ValueError):
        return []
    return [Found("camera", f"{driver}://{info.name}", info.description, True) for info in infos]


def processor() -> Found:
    """Return the CPU, with the cores that this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(models, name)
    return Found("cpu", "cpu", f"{name}, {cores()} core(s)", True)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def engines(registry: Registry) -> Iterator[Found]:
    """Yield what the installed stages can compute with.

    A stage class may have a class method `engines()` that returns a list of
    {"name", "available", "why"}.
    """
    for entry in ask_stages(registry, "engines"):
        is_usable = bool(entry["available"])
        about = str(entry.get("why") or ("ready" if is_usable else "not available"))
        yield Found("engine", str(entry["name"]), about, is_usable)


def ask_stages(registry: Registry, question: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of every stage class that has a class method `question`."""
    for kind in registry.kinds():
        try:
            method = getattr(registry.stage(kind), question, None)
        except ConfigError:
            continue  # a stage that cannot be imported is for `livesd doctor` to tell
        if method is not None:
            yield from (dict(entry) for entry in method())
