"""Live parameters on their way between processes: plain values, validated on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from lsd.pipeline.errors import WireError
from lsd.pipeline.links.header import MAX_PARAMS_BYTES
from lsd.pipeline.links.message import U63, UNREADABLE, BadMessage
from lsd.pipeline.params import Params, StageOptions

_DECODER = msgspec.msgpack.Decoder(tuple[U63, dict[str, dict[str, Any]]])


class Snapshots:
    """Packs and unpacks snapshots of one pipeline's parameters.

    Only live options cross, as `[version, {stage: {option: value}}]`; all others are those
    of the receiver's own YAML, so that no sender can change a path or a device. Every frame
    carries its snapshot (a restarted process needs no history), and one that is the same as
    the last costs a comparison of bytes.

    Args:
        base: stage name -> the options that this process was started with.
    """

    def __init__(self, base: Mapping[str, StageOptions]) -> None:
        self._base = dict(base)
        self._live = {name: _live_fields(options) for name, options in base.items()}
        self._packed: tuple[Params, bytes] | None = None
        self._unpacked: tuple[bytes, Params] | None = None

    def pack(self, params: Params) -> bytes:
        """Return a snapshot as msgpack.

        Raises:
            WireError: it takes more than MAX_PARAMS_BYTES.
        """
        if self._packed is not None and self._packed[0] is params:
            return self._packed[1]
        values = {
            name: options.model_dump(mode="json", include=_live_fields(options))
            for name, options in params.stages.items()
        }
        data = msgspec.msgpack.encode((params.version, values))
        if len(data) > MAX_PARAMS_BYTES:
            raise WireError(
                f"the live parameters take {len(data)} bytes, at most {MAX_PARAMS_BYTES} fit; "
                "shorten the prompts"
            )
        self._packed = (params, data)
        return data

    def unpack(self, data: bytes) -> Params:
        """Return the snapshot, every value checked by its stage's options.

        Raises:
            BadMessage: an unknown stage, an option that is not live, or a wrong value.
        """
        if self._packed is not None and self._packed[1] == data:
            return self._packed[0]  # one that was sent from here, and comes back
        if self._unpacked is not None and self._unpacked[0] == data:
            return self._unpacked[1]
        try:
            version, values = _DECODER.decode(data)
        except UNREADABLE as error:
            raise BadMessage("params", f"not [version, values]: {error}") from error
        strangers = values.keys() ^ self._base.keys()
        if strangers:
            raise BadMessage("params", f"the stages differ: {', '.join(strangers)}")
        stages = {name: self._options(name, values[name]) for name in self._base}
        params = Params(stages, version)
        self._unpacked = (data, params)
        return params

    def _options(self, name: str, found: Mapping[str, Any]) -> StageOptions:
        base = self._base[name]
        if not found.keys() <= self._live[name]:
            raise BadMessage("params", f"stages.{name}: an option that is not live")
        try:
            return type(base).model_validate({**base.model_dump(), **found})
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise BadMessage("params", f"stages.{name}.{path}: {first['msg']}") from error


def _live_fields(options: StageOptions) -> set[str]:
    return {
        name
        for name, info in type(options).model_fields.items()
        if isinstance(info.json_schema_extra, dict)
        and info.json_schema_extra.get("applies") == "live"
    }
