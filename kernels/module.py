"""PTX on a card: the driver's JIT turns a text into machine code, once a card and text."""

from __future__ import annotations

import re
from typing import Any

from lsd.kernels.driver import Device, cuda, explain
from lsd.kernels.records import Record
from lsd.pipeline.errors import KernelError

_LOG_BYTES = 16384
_LOG_LINES = 4  # of the JIT's log that a message shows


class Module:
    """One loaded text.

    Args:
        device: the card; its context must be current on this thread.
        text: PTX.
        name: for messages; the op.

    Attributes:
        info: what the JIT said although it succeeded.

    Raises:
        KernelError: the driver refuses the text; the message shows the JIT's first lines.
    """

    def __init__(self, device: Device, text: str, name: str) -> None:
        self.name = name
        errors, info = bytearray(_LOG_BYTES), bytearray(_LOG_BYTES)
        option = cuda.CUjit_option
        options = {
            option.CU_JIT_ERROR_LOG_BUFFER: errors,
            option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES: len(errors),
            option.CU_JIT_INFO_LOG_BUFFER: info,
            option.CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES: len(info),
            option.CU_JIT_LOG_VERBOSE: 1,  # line numbers, registers, spills
        }
        # the driver reads up to a zero byte
        code, self._handle = cuda.cuModuleLoadDataEx(
            text.encode() + b"\0", len(options), list(options), list(options.values())
        )
        if code:
            major, minor = device.capability
            where = f"kernel '{name}' on cuda:{device.index} ({device.name}, sm_{major}{minor})"
            raise KernelError(f"{where}: {explain(code)}{_quoted(errors)}")
        self.info = _lines(info)

    def function(self, entry: str) -> Any:
        """Return the handle of an entry.

        Raises:
            KernelError: the text has no such entry.
        """
        code, function = cuda.cuModuleGetFunction(self._handle, entry.encode())
        if code:
            raise KernelError(f"kernel '{self.name}' has no entry {entry!r}: {explain(code)}")
        return function


def load(device: Device, record: Record) -> Module:
    """Return the op's module on a card, loading it the first time."""
    text = record.text
    found = device.modules.get(text)
    if found is None:
        found = device.modules[text] = Module(device, text, record.op)
    return found


def _lines(log: bytearray) -> list[str]:
    text = log.partition(b"\0")[0].decode(errors="replace")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def _quoted(log: bytearray) -> str:
    lines = _lines(log)
    more = f" (and {len(lines) - _LOG_LINES} more lines)" if len(lines) > _LOG_LINES else ""
    return f"; the JIT says: {' | '.join(lines[:_LOG_LINES])}{more}" if lines else ""
