"""Checks whether this machine can run livesd, and says what to do where it cannot."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, NamedTuple

from lsd.pipeline.device import cuda_cards
from lsd.pipeline.devices import cameras, cores, engines
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.registry import Registry

State = Literal["ok", "warn", "fail"]

GPU_CHECKS = "lsd.checks"  # entry points: functions that yield `Check`s

PREVIEW_PORT = 8090
_FREE_BYTES = 1 << 30
# the packages whose module has another name
_MODULES = {
    "opencv-python-headless": "cv2",
    "hdrhistogram": "hdrh",
    "prometheus-client": "prometheus_client",
    "pyzmq": "zmq",
}


class Check(NamedTuple):
    """One result.

    Attributes:
        name: what was looked at.
        state: "fail" where livesd will not work, "warn" where a part of it will not.
        found: what is there.
        advice: what to do; empty when all is well.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def examine(registry: Registry | None = None) -> Iterator[Check]:
    """Yield one result after the other; importing the libraries takes seconds."""
    registry = registry or Registry()
    yield _python()
    yield from packages()
    yield from stages(registry)
    yield from weights()
    yield from _engines(registry)
    yield _encoder()
    yield from _cameras()
    yield out_folder(Path.cwd() / "out")
    yield port(PREVIEW_PORT)
    yield _cores()
    yield _cards()


def examine_gpu() -> Iterator[Check]:
    """Yield what installed packages find when they try their kernels on the card.

    Without a card they say so; that is no failure.
    """
    points = list(entry_points(group=GPU_CHECKS))
    if not points:
        advice = "install livesd again: pip install ."
        yield Check("gpu", "fail", "no installed package checks a card", advice)
    for point in points:
        try:
            yield from point.load()()
        except Exception as error:  # another package's code
            found = f"{point.value}: {type(error).__name__}: {error}"
            yield Check(f"gpu {point.name}", "fail", found, "install its package again")


def _python() -> Check:
    # pip installs livesd on no Python that is too old, so there is nothing to judge.
    return Check("python", "ok", f"{platform.python_version()} ({sys.executable})")


def packages() -> Iterator[Check]:
    """Yield a result for each package that livesd needs: there, new enough, importable."""
    for text in importlib.metadata.requires("livesd") or []:
        if ";" in text:
            continue  # belongs to an extra
        match = re.match(r"[A-Za-z0-9._-]+", text)
        assert match is not None, f"not a requirement: {text}"
        yield package(match[0], text)


def package(name: str, requirement: str, load: Callable[[str], object] | None = None) -> Check:
    """Check one package against its requirement, such as "torch>=2.13,<2.14"."""
    install = f'pip install "{requirement}"'
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "fail", "not installed", install)
    if not satisfies(version, requirement):
        return Check(name, "fail", f"{version}, expected {requirement}", install)
    try:
        (load or importlib.import_module)(_MODULES.get(name, name))
    except Exception as error:  # a package may fail to load in any way it likes
        return Check(name, "fail", f"{version}, cannot be imported: {error}", f"{install} --force")
    return Check(name, "ok", version)


def satisfies(version: str, requirement: str) -> bool:
    """Return whether `version` is within the >= and < limits of `requirement`.

    >>> satisfies("2.13.0+cpu", "torch>=2.13,<2.14"), satisfies("14.0", "av>=15")
    (True, False)
    """
    have = _numbers(version)
    for operator, limit in re.findall(r"(>=|<)\s*([0-9.]+)", requirement):
        is_newer = have >= _numbers(limit)
        if is_newer != (operator == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def stages(registry: Registry) -> Iterator[Check]:
    """Yield one result for all stages together, or one for each that is broken."""
    kinds, broken = registry.kinds(), 0
    for kind in kinds:
        try:
            registry.stage(kind)
        except ConfigError as error:
            broken += 1
            yield Check(f"stage {kind}", "fail", str(error), "install its package again")
    if not kinds:
        yield Check("stages", "fail", "none installed", "install livesd: pip install .")
    elif not broken:
        yield Check("stages", "ok", ", ".join(kinds))


def weights(folder: Path | None = None) -> Iterator[Check]:
    """Yield a result for each weights file of the shipped model."""
    if folder is None:
        package_file = importlib.import_module("lsd.stages.weights").__file__
        folder = Path(str(package_file)).parent
    again = "install livesd again: the file comes with it"
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        yield Check("weights", "fail", f"no weights in {folder}", again)
    for path in files:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                count = len(list(file.keys()))
        except (OSError, SafetensorError) as error:
            yield Check("weights", "fail", f"{path.name}: {error}", again)
        else:
            kib = path.stat().st_size // 1024
            yield Check("weights", "ok", f"{path.name}: {count} tensors, {kib} KiB")


def _engines(registry: Registry) -> Iterator[Check]:
    found = list(engines(registry))
    for engine in found:
        state: State = "ok" if engine.is_usable else "warn"
        advice = "" if engine.is_usable else "not needed while another engine is there"
        yield Check(f"engine {engine.name}", state, engine.about, advice)
    if found and not any(engine.is_usable for engine in found):
        yield Check("engines", "fail", "none can be used", "see the lines above")


def _encoder() -> Check:
    try:
        import av
        import av.codec

        av.codec.Codec("h264", "r")
        av.codec.Codec("libx264", "w")
    except ImportError as error:
        return Check("video codecs", "fail", str(error), 'pip install "av>=14"')
    except Exception as error:  # what PyAV raises for an unknown codec changed between versions
        found = f"libx264 is not in this FFmpeg: {error}"
        return Check("video codecs", "fail", found, "install PyAV's own wheel: pip install av")
    version = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    return Check("video codecs", "ok", f"h264 and libx264, libavcodec {version}")


def _cameras() -> Iterator[Check]:
    found = cameras()
    for camera in found:
        state: State = "ok" if camera.is_usable else "warn"
        advice = "" if camera.is_usable else "see `livesd devices`"
        yield Check("camera", state, f"{camera.name}: {camera.about}", advice)
    if not found:
        advice = "plug one in, or use a file: livesd run demo --input clip.mp4"
        yield Check("camera", "warn", "none", advice)


def out_folder(folder: Path) -> Check:
    """Check that files can be written in `folder`, or that it can be made."""
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror}"
        return Check("out folder", "fail", found, "change to a folder of your own, or use --output")
    free = shutil.disk_usage(parent).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if free < _FREE_BYTES:
        return Check("out folder", "warn", found, "make room, or use --output on another disk")
    return Check("out folder", "ok", found)


def port(number: int) -> Check:
    """Check that the preview page could be served."""
    with socket.socket() as probe:
        # As the server itself does: a port in TIME_WAIT is free to use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            other = f"use another: --output mjpeg://127.0.0.1:{number + 1}"
            return Check("preview port", "warn", f"{number}: {error.strerror}", other)
    return Check("preview port", "ok", f"127.0.0.1:{number} is free")


def _cores() -> Check:
    count = cores()
    limits = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS",) if name in os.environ]
    found = ", ".join([f"{count} core(s) usable of {os.cpu_count()}", *limits])
    if count < 2:
        advice = "expect late frames: a smaller size helps (--set size=128x128)"
        return Check("cores", "warn", found, advice)
    return Check("cores", "ok", found)


def _cards() -> Check:
    cards = cuda_cards()
    return Check("gpu", "ok", ", ".join(cards) if cards else "none (none is needed)")
