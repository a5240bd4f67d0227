"""NVIDIA's assembler, compiler and disassembler: where they are, and how they are run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from lsd.lab.ptx.compiler import cache_folder
from lsd.pipeline.errors import KernelError

TOOLS = ("ptxas", "nvcc", "nvdisasm")
_PATIENCE_S = 300.0


@lru_cache(maxsize=8)
def tool(name: str) -> Path:
    """Find a tool: in this environment's wheels, then on the PATH, then in /usr/local/cuda.

    Raises:
        KernelError: it is nowhere.
    """
    for folder in (*_wheels(), *os.environ.get("PATH", "").split(os.pathsep)):
        found = Path(folder) / name
        if folder and found.is_file() and os.access(found, os.X_OK):
            return found
    found = Path("/usr/local/cuda/bin") / name
    if found.is_file():
        return found
    raise KernelError(
        f"{name} is not here; pip install 'livesd[dev]' brings it (no card is needed), and so "
        "does NVIDIA's CUDA toolkit"
    )


@lru_cache(maxsize=8)
def release(name: str) -> str:
    """Return the last line of a tool's --version, which names its build."""
    return run(name, "--version").strip().splitlines()[-1]


def run(name: str, *arguments: str) -> str:
    """Run a tool, and return what it said on both outputs.

    Raises:
        KernelError: it is missing, fails, or does not end; with what it said.
    """
    path = tool(name)
    # nvcc looks for its parts beside it, and on the PATH
    environment = os.environ | {"PATH": f"{path.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            [str(path), *arguments], capture_output=True, text=True, timeout=_PATIENCE_S,
            env=environment, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{path} cannot be run ({error}); reinstall it") from error
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        raise KernelError(f"{name} refuses: {said or f'exit code {done.returncode}'}")
    return said


def kept(parts: tuple[str, ...], suffix: str, make: Callable[[Path], str]) -> tuple[Path, str]:
    """Return a file and what the tool said when it made it, made once and kept by its hash.

    Args:
        parts: everything that the file is made from, the tool's release among it.
        suffix: of the file.
        make: writes the file, and returns what is to be remembered beside it.
    """
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = cache_folder() / f"{key}{suffix}"
    log = path.with_suffix(".log")
    if not (path.exists() and log.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            made = Path(scratch) / f"made{suffix}"
            said = make(made)
            note = Path(scratch) / "note"
            note.write_text(said, encoding="utf-8")
            # two processes may do this at once: each puts whole files in their place
            shutil.move(note, log)
            shutil.move(made, path)
    return path, log.read_text(encoding="utf-8")


def _wheels() -> list[str]:
    spec = find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return [str(Path(folder) / "cu13" / "bin") for folder in folders]
