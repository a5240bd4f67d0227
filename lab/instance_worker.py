"""A worker that leaves behind when each of its frames came and went: for `lab/instances.py`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from lsd.pipeline import worker
from lsd.pipeline.runner import Runner

FOLDER = "LIVESD_LAB_FOLDER"  # in the environment: where to


def leave(runner: Runner) -> None:
    """Write what the trace holds: number, capture, hand-over to the sinks, deadline, in ns.

    The hand-over is None for a frame that did not get there.
    """
    recording = runner.trace.recording()
    output = recording.names[-2]
    out_ns = {span.seq: span.end_ns for span in recording.spans if span.stage == output}
    frames = [
        (each.seq, each.captured_ns, out_ns.get(each.seq), each.deadline_ns)
        for each in recording.admissions
    ]
    left = {"engine": runner.report().facts.get("engine"), "frames": frames}
    (Path(os.environ[FOLDER]) / f"{os.getpid()}.json").write_text(json.dumps(left))


if __name__ == "__main__":
    code = worker.main(on_end=leave)
    sys.stdout.flush()
    os._exit(code)
