"""Opens the ends of a worker's links: rings on this host, wires to others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from lsd.pipeline.config import PipelineConfig
from lsd.pipeline.crossing import Arriving, FlightCodec, Leaving, Told
from lsd.pipeline.frame import TENSOR
from lsd.pipeline.hosts import WireConfig
from lsd.pipeline.lineage import Lineage
from lsd.pipeline.links.endpoints import Keys
from lsd.pipeline.links.parcel import frame_bytes
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.wire_receiver import WireReceiver
from lsd.pipeline.links.wire_sender import WireSender
from lsd.pipeline.placement import Placement

# A live stream goes on without whoever is silent at its end; a file waits for him a while.
_LIVE_LINGER_S, _FILE_LINGER_S = 5.0, 60.0


class WorkerLinks:
    """Where a worker's frames come from and go to.

    Args:
        config: the whole pipeline.
        placement: what its `workers` mean.
        name: of the worker.
        keys: the file with the keys of links between hosts; None: there are none.
        lineage: counts what crosses to other hosts and from them.
        told: is told what happens to those at the other ends.

    Attributes:
        before, behind: the workers at the other ends; None: there is none.
    """

    def __init__(
        self,
        config: PipelineConfig,
        placement: Placement,
        name: str,
        keys: str | None,
        lineage: Lineage | None,
        told: Told,
    ) -> None:
        self._config, self._lineage, self._told = config, lineage, told
        self._keys = None if keys is None else Keys.load(Path(keys))
        self._wire = config.wire or WireConfig.model_validate({})
        self._window = self._wire.window or (1 if config.live else 4)
        self._name, self._placement = name, placement
        links = [link for link in placement.links if link.source_worker != link.target_worker]
        self.before = {link.target_worker: link.source_worker for link in links}.get(name)
        self.behind = {link.source_worker: link.target_worker for link in links}.get(name)

    def arriving(
        self, codec: FlightCodec, ring: Ring | None, endpoint: str | None
    ) -> Arriving | None:
        """Return the end that frames come from; None: the source is here.

        Args:
            codec: of those frames.
            ring: that they come by, or else
            endpoint: of the other host, to connect to.

        Raises:
            ConfigError: the endpoint cannot be used.
        """
        if ring is not None:
            reports_loss = self._placement.reports_loss(self._name)
            return self._ring_end(codec, ring, reports_loss=reports_loss)
        if endpoint is None:
            return None
        attach = partial(
            WireReceiver,
            endpoint,
            self._config.name,
            codec,
            bind=False,
            policy="block",
            max_bytes=frame_bytes(self._config.size, TENSOR),
            keys=self._keys,
            window=self._window,
        )
        count = self._lineage.receive if self._lineage is not None else _nothing
        return Arriving(attach, self._told, f"worker {self.before} ({endpoint})", count)

    def leaving(
        self, codec: FlightCodec, ring: Ring | None, endpoint: str | None
    ) -> Leaving | None:
        """Return the end that frames are put into; None: the sink is here.

        Args:
            codec: of those frames.
            ring: that they go by, or else
            endpoint: to listen on, for the other host.

        Raises:
            ConfigError: the endpoint cannot be used.
        """
        if ring is not None:
            return Leaving(RingWriter(ring, self._config.name, codec), self._told)
        if endpoint is None:
            return None
        is_live = self._config.live
        link = WireSender(
            endpoint,
            self._config.name,
            codec,
            bind=True,
            capacity=1 if is_live else 4,
            policy="block",
            keys=self._keys,
            window=self._window,
            linger_s=_LIVE_LINGER_S if is_live else _FILE_LINGER_S,
            compress=self._wire.compress,
        )
        count = self._lineage.send if self._lineage is not None else _nothing
        return Leaving(link, self._told, f"worker {self.behind} ({endpoint})", count)

    def returning(self, codec: FlightCodec, ring: Ring | None) -> Arriving | None:
        """Return the end that what became of frames comes back by; None: it is known here.

        Args:
            codec: of what leaves the stage that the recurrence begins at.
            ring: that it comes by, if it does.
        """
        return None if ring is None else self._ring_end(codec, ring, reports_loss=True)

    def returns(
        self, codec: FlightCodec, ring: Callable[[str], Ring | None]
    ) -> tuple[Leaving, ...]:
        """Return the ends that it is told by to other workers, where it is known here.

        Args:
            codec: likewise.
            ring: name of an edge -> its ring, if this worker writes it.
        """
        names = dict.fromkeys(edge.name for edge in self._placement.delays if edge.is_remote)
        rings = [found for name in names if (found := ring(name)) is not None]
        name = self._config.name
        return tuple(Leaving(RingWriter(each, name, codec), self._told) for each in rings)

    def _ring_end(self, codec: FlightCodec, ring: Ring, *, reports_loss: bool) -> Arriving:
        attach = partial(RingReader, ring, self._config.name, codec)
        return Arriving(attach, self._told, reports_loss=reports_loss)


def _nothing() -> None:
    """There is no page to count on."""
