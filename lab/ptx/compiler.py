"""C text to a loaded library, compiled once and kept by the hash of what went into it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from lsd.lab.ptx.structures import Run
from lsd.pipeline.errors import KernelError

# -O1 already gives most of the speed at a fraction of -O2's time. No contraction and no
# folding across rounding modes: the arithmetic must be PTX's.
FLAGS = (
    "-x", "c", "-std=gnu11", "-O1", "-mfma", "-mf16c", "-ffp-contract=off", "-frounding-math",
    "-fno-strict-aliasing", "-shared", "-fPIC", "-w",
)  # fmt: skip
Kernel = Callable[[Run], int]
_KEPT = 4000  # libraries of 20 KB each
_HEADERS = ("arithmetic.h", "memory.h", "schedule.h")


def cache_folder() -> Path:
    """Return where compiled kernels are kept: $LSD_CACHE, or the user's cache folder."""
    base = os.environ.get("LSD_CACHE")
    if base:
        return Path(base) / "ptx"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "livesd" / "ptx"


@lru_cache(maxsize=256)
def load(c: str) -> Kernel:
    """Compile an entry's C, unless that has been done before, and load it.

    Returns:
        a function that runs a launch, 0, or 1 with a fault in it, or 2: no memory.

    Raises:
        KernelError: no compiler, or a processor or compiler that this does not work with.
    """
    text = _runtime() + c
    key = hashlib.sha256("\0".join((text, _version(), *FLAGS)).encode()).hexdigest()[:32]
    path = cache_folder() / f"{key}.so"
    if not path.exists():
        _compile(text, path)
        _prune(path.parent)
    function = ctypes.CDLL(str(path)).run
    function.argtypes = [ctypes.POINTER(Run)]
    function.restype = ctypes.c_int
    return lambda run: int(function(ctypes.byref(run)))


@lru_cache(maxsize=1)
def _prune(folder: Path) -> None:
    """Delete what was made longest ago, once a process."""
    made = sorted(folder.glob("*.so"), key=lambda path: path.stat().st_mtime)
    for path in made[:-_KEPT]:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _runtime() -> str:
    folder = files("lsd.lab.ptx")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _HEADERS)


@lru_cache(maxsize=1)
def _compiler() -> str:
    found = shutil.which("gcc")
    if found is None:
        raise KernelError("the PTX executor compiles kernels with gcc, which is not on the PATH")
    return found


@lru_cache(maxsize=1)
def _version() -> str:
    done = subprocess.run([_compiler(), "--version"], capture_output=True, text=True, check=False)
    return done.stdout


def _compile(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "kernel.so"
        command = [_compiler(), *FLAGS, "-o", str(made), "-", "-lm"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelError(
                f"gcc cannot compile a translated kernel: {done.stderr.strip()[:2000]}"
            )
        made.replace(path)  # at once, so that no other process loads half a file
