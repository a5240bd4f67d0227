"""Where finished runs are kept, so that a stopped command goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
import zlib
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift import anew
from lsd.lab.drift.controls import CLEAN_HISTORY, clean_history_weights
from lsd.lab.drift.record import Record, Run
from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.errors import SinkError
from lsd.stages.models import weights

VERSION = 4  # raise it when a run is made or measured differently: kept runs are made anew
_QUALITY = 92  # of the JPEGs that sheets are kept as
_UNFINISHED = ".tmp"
_ABANDONED_S = 60.0  # no run takes that long to write
# what zipfile, zlib, NumPy and json raise over a file with wrong bytes in it
_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Store:
    """The folder of one command's finished runs: a file each.

    A run is known by its description, the pipeline, the weights and the
    version of the lab; where one of them changes, it is made anew.

    Args:
        folder: is made.
        config: from `prepared`.

    Raises:
        SinkError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, config: PipelineConfig) -> None:
        self._folder = folder
        described = config.model_dump(
            mode="json", by_alias=True, exclude={"name", "ladder", "hold"}
        )
        self._base = [VERSION, version("livesd"), _weights(), described]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            probe = folder / f".{os.getpid()}{_UNFINISHED}"
            probe.write_bytes(b"")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def path(self, run: Run) -> Path:
        """Return the file of a run, whether it is there or not."""
        own = clean_history_weights() if run.control == CLEAN_HISTORY else None
        known = [*self._base, own and _digest(own.read_bytes()), asdict(run)]
        if anew.is_on(run):  # came after version 4, whose other runs took hours and are as good
            known.append(anew.frames_of(run))
        digest = _digest(json.dumps(known, sort_keys=True).encode())
        return self._folder / f"{run.key}-{digest[:8]}.npz"

    def has(self, run: Run) -> bool:
        """Return whether a run is finished."""
        return self.load(run) is not None

    def load(self, run: Run) -> Record | None:
        """Read a finished run; None where it is not there, or its file is damaged."""
        try:
            with np.load(self.path(run), allow_pickle=False) as packed:
                return _unpacked(run, {name: packed[name] for name in packed.files})
        except _DAMAGED:
            return None

    def save(self, record: Record) -> None:
        """Write a finished run; whoever is stopped meanwhile leaves no half a file.

        Raises:
            SinkError: it cannot be written.
        """
        path = self.path(record.run)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
        try:
            try:
                with temporary.open("wb") as file:
                    np.savez_compressed(file, **_packed(record))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error


def _weights() -> dict[str, str]:
    """Return file -> digest of all forms of the networks: engines read different ones."""
    paths = (path for name in ("unet", "blend") for path in weights.folder().glob(f"{name}*"))
    return {path.name: _digest(path.read_bytes()) for path in paths}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        with suppress(FileNotFoundError):  # somebody else was faster
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()


def _packed(record: Record) -> dict[str, Any]:
    facts = {"counts": record.counts, "seconds": record.seconds}
    return {
        "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        **{f"series/{name}": values for name, values in record.series.items()},
        **{f"curve/{name}": values for name, values in record.curves.items()},
        **{f"sheet/{number}": _jpeg(picture) for number, picture in record.sheets.items()},
    }


def _unpacked(run: Run, packed: dict[str, NDArray[Any]]) -> Record:
    def part(kind: str) -> dict[str, NDArray[Any]]:
        return {name[len(kind) :]: x for name, x in packed.items() if name.startswith(kind)}

    facts = json.loads(packed["facts"].tobytes())
    return Record(
        run,
        series=part("series/"),
        sheets={int(number): _picture(data) for number, data in part("sheet/").items()},
        curves=part("curve/"),
        counts=facts["counts"],
        seconds=facts["seconds"],
    )


def _jpeg(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV cannot write JPEG"
    return np.asarray(data, np.uint8).ravel()


def _picture(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError("not a picture")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _unwritable(path: Path, error: OSError) -> SinkError:
    return SinkError(
        f"{path}: cannot be written: {error.strerror or error}; choose another folder with -o"
    )
