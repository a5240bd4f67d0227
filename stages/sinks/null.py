"""null://: counts pictures and lets go of them."""

from __future__ import annotations

from lsd.pipeline.errors import SinkError
from lsd.stages.sinks.sink import Pixels, SinkSettings
from lsd.stages.uri import Uri


class Null:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.where = "null://"
        self.count = 0

    def write(self, pixels: Pixels, pts_ns: int) -> None:
        self.count += 1

    def close(self) -> None:
        pass


def open_sink(uri: Uri, settings: SinkSettings) -> Null:
    """Make the sink.

    Raises:
        SinkError: the URI says more than null://.
    """
    check(uri)
    return Null()


def check(uri: Uri) -> None:
    """Refuse a URI that says more than null://.

    Raises:
        SinkError: it does.
    """
    if uri.rest or uri.query:
        raise SinkError(f"{uri.text}: takes nothing after null://")
