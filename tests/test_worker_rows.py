"""What a status says of workers, in a table and below it."""

import pytest

from lsd.pipeline.worker_rows import troubles, worker_rows


def run(**changes):
    worker = {
        "state": "running", "pid": 7, "restarts": 0, "since_s": 5.0, "stages": ["diffusion"],
        "cores": None, "cause": None, "post_mortem": None, "status": {},
    }  # fmt: skip
    return {"name": "demo", "workers": {"model": {**worker, **changes}}}


def test_latency_is_that_of_the_last_frames_and_none_while_none_come():
    told = {"fps": 24.96, "latency_p50_ms": 30.0, "latency_recent_p50_ms": 12.34}
    (row,) = worker_rows(run(status=told))
    assert (row["fps"], row["latency ms"]) == ("25.0", "12.3")
    (row,) = worker_rows(run(status={**told, "fps": 0.0}))
    assert (row["fps"], row["latency ms"]) == ("0.0", "-")
    (row,) = worker_rows(run())
    assert (row["fps"], row["latency ms"]) == ("-", "-")


DEATH = {"cause": "SIGKILL (kill -9, or out of memory)"}
LOST = {"trouble": "capture is without its source, for 3 s"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, None),
        ({"state": "starting"}, None),
        ({"state": "ended"}, None),
        ({"status": LOST}, LOST["trouble"]),
        ({"state": "restarting", "post_mortem": DEATH}, f"restarting: {DEATH['cause']}"),
        ({"state": "starting", "restarts": 1, "post_mortem": DEATH}, f"starting: {DEATH['cause']}"),
        ({"state": "failed", "restarts": 5, "post_mortem": DEATH}, f"failed: {DEATH['cause']}"),
        ({"restarts": 1, "post_mortem": DEATH}, None),
        ({"restarts": 1, "post_mortem": DEATH, "status": LOST}, LOST["trouble"]),
        ({"state": "degraded", "status": LOST}, LOST["trouble"]),
        ({"state": "failed", "cause": "cannot be started: no"}, "cannot be started: no"),
    ],
)
def test_what_is_the_matter_is_told_as_long_as_it_is(changes, line):
    assert troubles(run(**changes)) == ([] if line is None else [f"demo: worker model: {line}"])
