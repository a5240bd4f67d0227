"""The errors of LSD; every one says where, what was found and what to do."""

from __future__ import annotations


class LsdError(Exception):
    """Base of all errors that a user can cause or meet; printed without a traceback."""


class ConfigError(LsdError):
    """The YAML, a flag or a name in it is wrong; exit code 2."""


class GraphError(LsdError):
    """The stages do not fit together; exit code 2."""


class ShapeError(LsdError):
    """A picture or tensor has another shape, dtype or range than stated."""


class SourceError(LsdError):
    """An input is missing, broken or gone."""


class SinkError(LsdError):
    """An output cannot be opened or written."""


class StageError(LsdError):
    """A stage failed on a frame, or could not start."""


class WeightsError(LsdError):
    """A weights file is missing, damaged or of another version."""


class LinkClosed(LsdError):  # noqa: N818 - a state that ends a loop, the design's own name
    """The link's other end has gone; nothing more can be put or taken."""


class PeerLost(LinkClosed):
    """The process at a link's other end died; another may take its place there."""


class LinkStuck(LsdError):  # noqa: N818 - a state, as LinkClosed
    """The process at a link's other end is stopped and holds what both need."""


class KernelError(LsdError):
    """A GPU kernel could not be loaded or launched."""


class WireError(LsdError):
    """A message between processes is malformed."""
