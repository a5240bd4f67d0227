"""A worker for tests of the supervisor: it makes no pictures, and misbehaves as it is told.

python scripted_worker.py NAME [--crash-at 5] [--once FILE] --control-fd N [--fd NAME=N]...
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from lsd.pipeline.control import Control

TROUBLE = "capture is without its source, for 3 s"
REPORT = {"frames": {"repeated": 2}}  # told when asked


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--fd", action="append", default=[])
    parser.add_argument("--frames", type=int, help="end after so many")
    parser.add_argument("--until", type=Path, help="end when this file is there")
    parser.add_argument("--crash-at", type=int, help="kill -9 oneself at that frame")
    parser.add_argument("--fail-at", type=int, help="say that it failed at that frame")
    parser.add_argument("--hang-at", type=int, help="stop moving at that frame")
    parser.add_argument("--still-at", type=int, help="beat on, but see no further frame")
    parser.add_argument("--waits", action="store_true", help="beat on as one that has no work")
    parser.add_argument("--exit", type=int, help="exit with this before being ready")
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--deaf", action="store_true", help="obey neither stop nor SIGTERM")
    parser.add_argument("--child", type=Path, help="start a child, and write its pid there")
    parser.add_argument("--garbage", action="store_true", help="send what is malformed")
    parser.add_argument("--follows", metavar="WORKER", help="end when that one has ended")
    parser.add_argument("--once", type=Path, help="misbehave only if this file is not there")
    return parser.parse_args()


def main() -> int:
    told = options()
    stopping = threading.Event()

    def on_stop() -> None:
        print("got stop", flush=True)
        stopping.set()

    def on_peer(worker: str, event: str) -> None:
        print(f"peer {worker} {event}", flush=True)
        if event == "ended" and told.follows == worker:
            stopping.set()

    control = Control.join(told.name, told.control_fd, on_stop, on_peer, lambda: REPORT)
    if "LIVESD_TRIAL" in os.environ:
        print(f"trial {os.environ['LIVESD_TRIAL']}", flush=True)
    misbehaves = told.once is None or not told.once.exists()
    if told.once is not None:
        told.once.touch()
    if told.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told.child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        told.child.write_text(str(child.pid))
    for handed in told.fd:
        name, _, fd = handed.partition("=")
        print(f"fd {name} holds {os.pread(int(fd), 100, 0).decode()}", flush=True)
    if told.exit is not None and misbehaves:
        print("wrong file", file=sys.stderr)
        return int(told.exit)
    if told.never_ready and misbehaves:
        time.sleep(1000)
    if told.garbage:
        for packet in (b"\xff", b"[]", b'{"v": 1, "kind": "format disk"}', b"x" * 100_000):
            control._end.send(packet)
    control.ready()
    return work(told, control, stopping, misbehaves)


def work(
    told: argparse.Namespace, control: Control, stopping: threading.Event, misbehaves: bool
) -> int:
    frames = 0
    while (told.deaf or not stopping.is_set()) and frames != told.frames:
        time.sleep(0.01)
        if told.until is not None and told.until.exists():
            break
        if misbehaves and frames == told.crash_at:
            print("about to crash", file=sys.stderr, flush=True)
            print("without a line's end", end="", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if misbehaves and frames == told.fail_at:
            control.failed("the camera is gone")
            return 1
        if misbehaves and frames == told.hang_at:
            hang_here()
        is_still = misbehaves and frames == told.still_at
        frames += not is_still
        status = {
            "frames": frames,
            "fps": 25.0,
            "rung": "full",
            "dropped_late": 3,
            "trouble": TROUBLE,
        }
        control.beat({**status, "waiting": told.waits})
    control.ended({"seen": frames})
    return 0


def hang_here() -> None:
    time.sleep(1000)


if __name__ == "__main__":
    sys.exit(main())
