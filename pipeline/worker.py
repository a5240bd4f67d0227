"""The program of one worker: `python -m lsd.pipeline.worker NAME --config FILE ...`.

A supervisor starts it, and hands down a control socket, the descriptors of its rings, and of what
its processes leave to each other. Any other launcher may start it as well: without a control socket
it hears signals (`unattended.py`; docs/scaling.md).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from lsd.pipeline.control import Control, PeerEvent
from lsd.pipeline.control_messages import DROPPED, MAX_ENTRY
from lsd.pipeline.errors import (
    ConfigError,
    GraphError,
    LsdError,
    SinkError,
    SourceError,
    WeightsError,
)
from lsd.pipeline.lineage import LINEAGE
from lsd.pipeline.rate import Rate
from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.terminal import EXIT_FAILED, EXIT_MISSING, EXIT_USAGE
from lsd.pipeline.unattended import Unattended
from lsd.pipeline.wiring import CHECKPOINT, NEWEST, PAST, RETURNING, RING

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.crossing import Told
    from lsd.pipeline.graph import Graph
    from lsd.pipeline.links.ring import Ring
    from lsd.pipeline.part import Part
    from lsd.pipeline.placement import Placement
    from lsd.pipeline.runner import Runner
    from lsd.pipeline.status import Status

_BEAT_S = 0.1
_MOST_REASONS = 16  # a heartbeat of too many entries would be none


@dataclass(frozen=True)
class Arguments:
    """What a worker is told on its command line.

    Attributes:
        name: one of the config's `workers`.
        config: the pipeline's file.
        instance: which copy of the pipeline it belongs to; None: there is but one.
        control: the descriptor of the control socket; None: another launcher has started it.
        fds: what else was handed down: "in.memory" and its like, "checkpoint", "lineage".
        wires: "in" and "out", where they lead to other hosts -> the endpoint.
        keys: the file with the keys of those links.
        is_source_elsewhere: the source is on another host: a stop makes room for a successor.
        max_frames, max_duration_s: when the source ends the run.
    """

    name: str
    config: str
    instance: str | None
    control: int | None
    fds: Mapping[str, int]
    wires: Mapping[str, str]
    keys: str | None
    is_source_elsewhere: bool
    max_frames: int | None
    max_duration_s: float | None

    @property
    def title(self) -> str:
        """What it is called in ps and in messages."""
        return self.name if self.instance is None else f"{self.instance}/{self.name}"

    def ring(self, end: str) -> Ring | None:
        """Return the ring "in", "out" or one of the recurrence that was handed down, if it was."""
        from lsd.pipeline.links.ring import Ring

        names = [f"{end}.{part}" for part in RING]
        return Ring(*(self.fds[name] for name in names)) if names[0] in self.fds else None


def main(
    argv: Sequence[str] | None = None, on_end: Callable[[Runner], None] = lambda runner: None
) -> int:
    """Run one worker until its part of the stream is over.

    Args:
        argv: the command line; by default, this process's.
        on_end: is given what ran, at its regular end: a laboratory looks into it.

    Returns:
        The exit code: 0 at the regular end, 2 where no further try can help, 3 where what it needs
        is not there, or no longer, 1 otherwise.
    """
    given = _parsed(argv)
    runner: list[Runner] = []
    is_stopped = threading.Event()
    over: set[str] = set()  # workers of this run that nobody will succeed

    def stop() -> None:
        is_stopped.set()
        for each in runner:
            each.withdraw() if given.is_source_elsewhere else each.stop()

    def kill() -> None:
        for each in runner:
            each.kill()

    def peer(worker: str, event: PeerEvent) -> None:
        if event == "ended":
            over.add(worker.rpartition("/")[2])
            for each in runner:
                each.part.peers_are_over(over)

    def tell() -> dict[str, Any]:
        return _report(runner[0]) if runner else {}

    control: Control | Unattended
    if given.control is not None:
        control = Control.join(given.title, given.control, stop, peer, tell)
    else:
        control = Unattended(given.title, stop, kill)
    try:
        closing = ExitStack()
        runner.append(_runner(given, closing))
        if is_stopped.is_set():  # it may have come before there was a runner
            stop()
        runner[0].part.peers_are_over(over)  # likewise
        _run(runner[0], control)
        # At the regular end only: whoever leaves a link in order says that the stream has ended.
        # Behind an error the links stay as they are, for a successor.
        closing.close()
        on_end(runner[0])
        control.ended({**_report(runner[0]), "messages": list(runner[0].status().messages)})
    except LsdError as error:
        control.failed(str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        if isinstance(error, ConfigError | GraphError):
            return EXIT_USAGE
        is_missing = isinstance(error, SourceError | SinkError | WeightsError)
        return EXIT_MISSING if is_missing else EXIT_FAILED
    return 0


def _parsed(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(prog="livesd-worker")
    parser.add_argument("name")
    parser.add_argument("--config", required=True)
    parser.add_argument("--instance")
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--fd", action="append", default=[], metavar="NAME=N")
    parser.add_argument("--wire", action="append", default=[], metavar="END=ENDPOINT")
    parser.add_argument("--keys", metavar="FILE")
    parser.add_argument("--source-elsewhere", action="store_true")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--duration", type=lambda text: float(text.removesuffix("s")))
    found = parser.parse_args(argv)
    fds = dict(text.split("=", 1) for text in found.fd)
    return Arguments(
        name=found.name,
        config=found.config,
        instance=found.instance,
        control=found.control_fd,
        fds={name: int(number) for name, number in fds.items()},
        wires=dict(text.split("=", 1) for text in found.wire),
        keys=found.keys,
        is_source_elsewhere=found.source_elsewhere,
        max_frames=found.frames,
        max_duration_s=found.duration,
    )


def _runner(given: Arguments, closing: ExitStack) -> Runner:
    import torch

    from lsd.pipeline.allocator import keep_freed_memory
    from lsd.pipeline.config import load_config
    from lsd.pipeline.launch import build_graph, build_runner
    from lsd.pipeline.placement import place

    keep_freed_memory()
    # Threads that spin for work which a worker has little of steal from the others'.
    torch.set_num_threads(1)
    config = load_config(given.config)
    workers = config.workers or {}
    if given.name not in workers:
        hint = did_you_mean(given.name, workers, "the workers are")
        raise ConfigError(f"{given.config}: has no worker {given.name!r}; {hint}")
    worker = workers[given.name]
    if worker.device is not None:
        config = config.model_copy(update={"device": worker.device})

    def told(text: str) -> None:
        print(f"{given.name}: {text}", file=sys.stderr, flush=True)

    placement = place(config)
    if config.device == "auto" and given.name in placement.in_loop:
        config = config.model_copy(update={"device": "cpu"})  # a card's pictures cross no border
    part = _part(given, config, build_graph(config), placement, closing, told)
    if part.lineage is not None and part.lineage.incarnation:
        config = _renamed(config, worker.stages, part.lineage.incarnation)
    return build_runner(
        config, max_frames=given.max_frames, max_duration_s=given.max_duration_s, part=part
    )


def _part(
    given: Arguments,
    config: PipelineConfig,
    graph: Graph,
    placement: Placement,
    closing: ExitStack,
    told: Told,
) -> Part:
    """Open the worker's ends of its links; `closing.close` leaves them in order."""
    from lsd.pipeline.checkpoint import Checkpoint
    from lsd.pipeline.crossing import FlightCodec
    from lsd.pipeline.frame import PIXELS
    from lsd.pipeline.lineage import Lineage
    from lsd.pipeline.links.parcel import FrameCodec
    from lsd.pipeline.links.snapshots import Snapshots
    from lsd.pipeline.newest import Newest, Showing
    from lsd.pipeline.part import Part
    from lsd.pipeline.worker_links import WorkerLinks

    snapshots = Snapshots(config.stages)
    stages = placement.workers[given.name]
    checkpoint = lineage = past = None
    if LINEAGE in given.fds:
        lineage = Lineage(given.fds[LINEAGE])
        lineage.born()
    named = {stage.name: stage for stage in graph.stages}
    links = WorkerLinks(config, placement, given.name, given.keys, lineage, told)
    codec = FlightCodec(config.name, named[stages[0]].accepts, snapshots)
    incoming = links.arriving(codec, given.ring("in"), given.wires.get("in"))
    codec = FlightCodec(config.name, named[stages[-1]].returns, snapshots)
    outgoing = links.leaving(codec, given.ring("out"), given.wires.get("out"))
    feedback = config.feedback
    back = named[feedback.source].returns if feedback is not None else named[stages[-1]].returns
    codec = FlightCodec(config.name, back, snapshots)
    returning = links.returning(codec, given.ring(RETURNING))
    returns = links.returns(codec, given.ring)
    showing = newest = None
    if (ring := given.ring(NEWEST)) is not None:
        captured = FrameCodec(config.name, 0, PIXELS, snapshots)
        if given.name == placement.ends[0]:
            showing = Showing(ring, captured)
        else:
            newest = Newest(ring, captured)
    for end in (incoming, outgoing, returning, *returns, showing, newest):
        if end is not None:
            closing.callback(end.leave)
    if CHECKPOINT in given.fds:
        checkpoint = Checkpoint(given.fds[CHECKPOINT], config.size, snapshots, told)
    if PAST in given.fds:
        past = Checkpoint(given.fds[PAST], config.size, snapshots)
    return Part(
        stages=frozenset(stages),
        incoming=incoming,
        outgoing=outgoing,
        checkpoint=checkpoint,
        lineage=lineage,
        past=past,
        returning=returning,
        returns=returns,
        relays=placement.relays(given.name),
        showing=showing,
        newest=newest,
        before=links.before,
        behind=links.behind,
        beginning=placement.beginning,
    )


def _renamed(config: PipelineConfig, stages: Sequence[str], incarnation: int) -> PipelineConfig:
    """Have a successor write files of its own: what its predecessor wrote is not lost."""
    changed = {}
    for name in stages:
        options = config.stages[name]
        outputs = getattr(options, "outputs", None)
        if outputs:
            renamed = [_numbered(uri, incarnation + 1) for uri in outputs]
            changed[name] = options.model_copy(update={"outputs": renamed})
    return config.model_copy(update={"stages": {**config.stages, **changed}})


def _numbered(uri: str, number: int) -> str:
    """Return another name for a file; an address stays.

    >>> _numbered("out/demo.mp4", 2), _numbered("mjpeg://127.0.0.1:8090", 2)
    ('out/demo-2.mp4', 'mjpeg://127.0.0.1:8090')
    """
    if "://" in uri:
        return uri
    path = PurePath(uri)
    return str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def _run(runner: Runner, control: Control | Unattended) -> None:
    if isinstance(control, Control):  # who has been asked by a message, and does not stop
        signal.signal(signal.SIGTERM, lambda *_: runner.kill())
    runner.start()
    control.ready()
    told = 0
    is_over = False
    rate = Rate()
    while not is_over:
        is_over = runner.wait(_BEAT_S)
        status, served = runner.status(), runner.served
        fps = rate.of(list(served.values())[-1], time.monotonic())
        for text in status.messages[told:]:  # into the run's log, and a post-mortem's last lines
            print(text, file=sys.stderr, flush=True)
        told = len(status.messages)
        if not is_over:
            frames, is_waiting = sum(served.values()), not runner.is_at_work
            control.beat({"frames": frames, "waiting": is_waiting, "fps": fps, **_status(status)})


def _status(status: Status) -> dict[str, str | int | float | bool]:
    dropped = {f"{DROPPED}{reason}": count for reason, count in status.dropped.items()}
    known = {
        "captured": status.captured,
        "emitted": status.emitted,
        "repeated": status.repeated,
        "dropped": sum(status.dropped.values()),
        "failed": status.failed,
        "latency_p50_ms": status.latency_p50_ms,
        "rung": status.rung,
        "trouble": "; ".join(status.troubles)[:MAX_ENTRY] or None,
        "latency_recent_p50_ms": status.latency_recent_ms and status.latency_recent_ms[0],
        "latency_recent_p99_ms": status.latency_recent_ms and status.latency_recent_ms[1],
        **dict(islice(dropped.items(), _MOST_REASONS)),
    }
    return {name: value for name, value in known.items() if value is not None}


def _report(runner: Runner) -> dict[str, Any]:
    report = runner.report()
    return {**report.to_json(with_totals=True), "on_time": report.counts.on_time}


if __name__ == "__main__":
    # Threads of stages that hang are not waited for.
    code = main()
    sys.stdout.flush()
    os._exit(code)
