"""Builds the fake libcuda, loads it in the place of the driver's, and tells it what to do.

Once loaded it stays for the life of the process, as cuda-bindings keeps its addresses; switched
off it says that there is no card. Kernels run on the executor of `lsd.lab.ptx`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import sysconfig
import tempfile
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.executor import Program, Settings
from lsd.lab.ptx.violation import Violation

HERE = Path(__file__).parent
TOOLKIT = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13"
LATE, EARLY, RANDOM = 0, 1, 2
INVALID_PTX, ILLEGAL_ADDRESS, MISALIGNED_ADDRESS, LAUNCH_FAILED = 218, 700, 716, 719
_EXECUTE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint * 3),
    ctypes.POINTER(ctypes.c_uint * 3),
    ctypes.c_uint,
    ctypes.c_void_p,
)
_ASSEMBLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_SCALARS = {"u64": np.uint64, "u32": np.uint32, "s32": np.int32, "f32": np.float32}


@cache
def library() -> Path:
    """Compile the fake, once a version of its text; return where it lies."""
    sources = sorted(HERE.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = HERE.parents[1] / ".cache" / "fake_cuda"
    built = folder / f"{digest}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            fresh = Path(place) / built.name
            files = [str(path) for path in sources if path.suffix == ".c"]
            flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
            name = "-Wl,-soname,libcuda.so.1"  # what cuda-bindings looks for
            include = f"-I{TOOLKIT / 'include'}"
            command = ["gcc", *flags, "-pthread", name, include, *files, "-o", str(fresh), "-ldl"]
            subprocess.run(command, check=True)
            os.replace(fresh, built)  # whole or not at all: tests run side by side
    return built


class FakeCuda:
    """The card that is none.

    Attributes:
        executed: names of the kernels that have run, in order.
        violations: what the executor found; the driver's codes say less.
        order: of the threads: forward, reverse or shuffled.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(library()), mode=ctypes.RTLD_GLOBAL)
        self._library.fake_locate.restype = ctypes.c_void_p
        self._library.fake_calls.restype = ctypes.c_long
        self._library.fake_used.restype = ctypes.c_size_t
        self._hooks = _EXECUTE(self._execute), _ASSEMBLE(self._assemble)
        self._library.fake_set_hooks(*self._hooks)
        self.executed: list[str] = []
        self.violations: list[Violation] = []
        self.order = "forward"
        self._is_broken = False

    def start(self, mode: int = LATE, seed: int = 0, limit: int = 256 << 20) -> None:
        """Begin anew: an empty card of `limit` bytes, its streams drained as `mode` says."""
        self._library.fake_start(mode, seed, ctypes.c_size_t(limit))
        self.executed.clear()
        self.violations.clear()
        self.order, self._is_broken = "forward", False

    def stop(self) -> None:
        """Take the card out."""
        self._library.fake_stop()

    def calls(self, *names: str) -> int:
        """Return how often these functions of the driver were called."""
        return sum(self._library.fake_calls(name.encode()) for name in names)

    def fail(self, name: str, code: int, after: int = 1) -> None:
        """Let the `after`-th call from now on return `code`, once."""
        self._library.fake_fail(name.encode(), code, after)

    def break_kernels(self) -> None:
        """Let every kernel fail from now on."""
        self._is_broken = True

    def set_version(self, version: int) -> None:
        self._library.fake_set_version(version)

    def set_capability(self, number: int) -> None:
        self._library.fake_set_capability(number)

    def set_mode(self, stream, mode: int) -> None:
        """Drain one stream in another way than the others."""
        handle = ctypes.c_void_p(stream.__cuda_stream__()[1])
        self._library.fake_set_stream_mode(handle, mode)

    @property
    def used_bytes(self) -> int:
        return self._library.fake_used()

    def parameters(self, text: str, name: str) -> list[str]:
        """Return the types of an entry's parameters, from the text and not from our record."""
        return _kinds(text, name)

    def peek(self, address: int, count: int) -> bytes:
        """Return what lies on the card now, whatever is queued."""
        return self._memory_at(address)[:count].tobytes()

    def _execute(self, text, name, grid, block, shared, params) -> int:
        try:
            return self._run(text.decode(), name.decode(), grid[0], block[0], shared, params)
        except Violation as violation:
            self.violations.append(violation)
            codes = {"bounds": ILLEGAL_ADDRESS, "alignment": MISALIGNED_ADDRESS}
            return codes.get(violation.kind, LAUNCH_FAILED)

    def _run(self, text, name, grid, block, shared, params) -> int:
        args, offset = [], 0
        for kind in _kinds(text, name):
            dtype = np.dtype(_SCALARS[kind])
            offset = -(-offset // dtype.itemsize) * dtype.itemsize
            value = dtype.type(_read(params + offset, dtype))
            offset += dtype.itemsize
            if kind == "u64" and value:
                buffer = self._memory_at(int(value))
                if buffer is None:
                    return ILLEGAL_ADDRESS
                args.append(buffer)
            else:
                args.append(None if kind == "u64" else value)
        launch = Launch(name, tuple(grid), tuple(block), tuple(args), shared)
        self.executed.append(name)
        if self._is_broken:
            return LAUNCH_FAILED
        program(text, name).run(launch, Settings(order=self.order))
        return 0

    def _memory_at(self, address: int):
        size, offset = ctypes.c_size_t(), ctypes.c_size_t()
        found = self._library.fake_locate(
            ctypes.c_uint64(address), ctypes.byref(size), ctypes.byref(offset)
        )
        if found is None:
            return None
        # a view of the whole allocation: the executor sees how the address is aligned
        whole = np.frombuffer((ctypes.c_uint8 * size.value).from_address(found), np.uint8)
        return whole[offset.value :]

    def _assemble(self, text, log, size) -> int:
        said = assemble(text)
        if said and log:
            ctypes.memmove(log, said[: size - 1] + b"\0", min(len(said) + 1, size))
        return INVALID_PTX if said else 0


@lru_cache(maxsize=64)
def program(text: str, name: str) -> Program:
    return Program.load(text, name)


@lru_cache(maxsize=64)
def assemble(text: bytes) -> bytes:
    """Return what ptxas has to say against a text."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "kernel.ptx"
        source.write_bytes(text)
        command = [str(TOOLKIT / "bin" / "ptxas"), "-arch=sm_80", str(source), "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, check=False)
    return (done.stderr + done.stdout or b"ptxas fails") if done.returncode else b""


def _kinds(text: str, name: str) -> list[str]:
    found = re.search(rf"\.entry\s+{re.escape(name)}\s*\(([^)]*)\)", text)
    assert found is not None, f"no entry {name}"
    return re.findall(r"\.param\s+\.(\w+)", found[1])


def _read(address: int, dtype) -> np.generic:
    raw = (ctypes.c_uint8 * dtype.itemsize).from_address(address)
    return np.frombuffer(raw, dtype)[0]
