"""The talk between worker and supervisor: every message checked, nobody made to wait."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.control import Control
from lsd.pipeline.control_messages import (
    FROM_SUPERVISOR,
    FROM_WORKER,
    MAX_BYTES,
    decode,
    encode,
    pair,
    receive,
)
from lsd.pipeline.errors import WireError


@pytest.fixture
def ends():
    ours, theirs = pair()
    with ours, theirs:
        yield ours, theirs


def told(end):
    """Return the next message of a worker's, as soon as it comes."""
    end.settimeout(30)
    return receive(end, FROM_WORKER)


def test_what_a_worker_says_arrives_as_it_was_said(ends):
    ours, theirs = ends
    control = Control(theirs, lambda: None)
    control.ready()
    control.beat({"frames": 3, "fps": 24.5, "rung": "full", "waiting": True})
    control.ended({"frames": 3, "dropped": {"superseded": 1}})
    control.failed("no camera")
    assert told(ours) == ("ready", {})
    assert told(ours).body == {"frames": 3, "fps": 24.5, "rung": "full", "waiting": True}
    assert told(ours).body == {"report": {"frames": 3, "dropped": {"superseded": 1}}}
    assert told(ours) == ("failed", {"error": "no camera"})


def test_heartbeats_are_thinned_out(ends):
    ours, theirs = ends
    control = Control(theirs, lambda: None)
    for frame in range(50):
        control.beat({"frames": frame})
    control.failed("the end")
    assert told(ours).body == {"frames": 0}
    kinds = []
    while not kinds or kinds[-1] != "failed":
        kinds.append(told(ours).kind)
    assert len(kinds) < 40


def test_stop_and_peers_reach_the_worker_and_who_ends_behind_the_stop(ends):
    ours, theirs = ends
    events, stopped, heard = [], threading.Event(), threading.Event()

    def peer(worker, event):
        events.append((worker, event, stopped.is_set()))
        if worker == "hand":
            heard.set()

    Control(theirs, stopped.set, peer)
    ours.send(encode("peer_lost", {"worker": "style"}))
    ours.send(encode("peer_back", {"worker": "style"}))
    ours.send(encode("peer_ended", {"worker": "eye"}))
    ours.send(encode("stop", {}))
    ours.send(encode("peer_ended", {"worker": "hand"}))
    assert heard.wait(30)
    assert events == [
        ("style", "lost", False), ("style", "back", False), ("eye", "ended", False),
        ("hand", "ended", True),
    ]  # fmt: skip


def test_who_is_asked_tells_how_it_goes_and_of_an_answer_too_large_what_fits(ends):
    ours, theirs = ends
    answers = iter([{"fps": 25.0}, {"engine": "x" * MAX_BYTES, "gap": math.nan, "fps": 24.0}])
    Control(theirs, lambda: None, on_tell=lambda: next(answers))
    for _ in range(2):
        ours.send(encode("tell", {}))
    assert told(ours) == ("report", {"report": {"fps": 25.0}})
    assert told(ours) == ("report", {"report": {"fps": 24.0}})


def test_the_end_is_told_however_much_there_is_to_report(ends):
    ours, theirs = ends
    messages = [f"output {n} cannot be written; it is tried again" for n in range(1000)]
    frames = {"emitted": 9}
    control = Control(theirs, lambda: None)
    for too_much in (messages, "x" * (MAX_BYTES - 60)):  # by itself, and only beside the frames
        control.ended({"messages": too_much, "frames": frames})
        assert told(ours) == ("ended", {"report": {"frames": frames}})


def test_who_cannot_answer_still_hears_that_it_must_stop(ends, capfd):
    ours, theirs = ends
    stopped = threading.Event()
    Control(theirs, stopped.set, on_tell=lambda: 1 // 0)
    ours.send(encode("tell", {}))
    ours.send(encode("stop", {}))
    assert stopped.wait(30)
    assert "cannot tell how it goes: ZeroDivisionError" in capfd.readouterr().err


def test_a_supervisor_that_is_gone_stops_the_worker(ends):
    ours, theirs = ends
    stopped = threading.Event()
    control = Control(theirs, stopped.set)
    ours.close()
    assert stopped.wait(30)
    control.beat({"frames": 1})  # into the void, without an error
    control.ended()


def test_what_a_supervisor_should_not_say_is_counted_and_ignored(ends):
    ours, theirs = ends
    stopped = threading.Event()
    control = Control(theirs, stopped.set)
    ours.send(b"nonsense")
    ours.send(encode("ready", {}))
    ours.send(encode("peer_lost", {}))
    ours.send(encode("stop", {}))
    assert stopped.wait(30)
    assert control.malformed == 3


def test_a_supervisor_that_does_not_listen_makes_no_frame_wait(ends):
    _, theirs = ends
    control = Control(theirs, lambda: None)
    theirs.setblocking(True)
    packet = encode("heartbeat", {"frames": 1, "rung": "x" * 200})
    with contextlib.suppress(BlockingIOError):
        while theirs.send(packet, socket.MSG_DONTWAIT):  # until nothing more fits
            pass
    control.beat({"frames": 1, "rung": "x" * 200})
    assert control.unsent == 1


def test_after_a_packet_that_is_too_large_comes_the_next(ends):
    ours, theirs = ends
    theirs.send(b"x" * (MAX_BYTES + 1))
    theirs.send(encode("ready", {}))
    with pytest.raises(WireError, match="more than"):
        receive(ours, FROM_WORKER)
    assert receive(ours, FROM_WORKER) == ("ready", {})


@pytest.mark.parametrize(
    "body",
    [
        {"v": 2, "kind": "ready"},
        {"kind": "ready"},
        {"v": 1},
        {"v": 1, "kind": ["ready"]},
        {"v": 1, "kind": "stop"},
        {"v": 1, "kind": "heartbeat"},
        {"v": 1, "kind": "heartbeat", "frames": -1},
        {"v": 1, "kind": "heartbeat", "frames": True},
        {"v": 1, "kind": "heartbeat", "frames": "1"},
        {"v": 1, "kind": "heartbeat", "frames": 1, "waiting": 1},
        {"v": 1, "kind": "heartbeat", "frames": 1, "fps": [25]},
        {"v": 1, "kind": "heartbeat", "frames": 1, "fps": float("nan")},
        {"v": 1, "kind": "heartbeat", "frames": 1, "rung": "x" * 300},
        {"v": 1, "kind": "heartbeat", "frames": 1, **{str(n): n for n in range(40)}},
        {"v": 1, "kind": "failed"},
        {"v": 1, "kind": "failed", "error": 3},
        {"v": 1, "kind": "ended", "report": 3},
        [1],
        None,
    ],
)
def test_malformed_messages_are_refused(body):
    with pytest.raises(WireError):
        decode(json.dumps(body).encode(), FROM_WORKER)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_raise_our_error(packet):
    for kinds in (FROM_WORKER, FROM_SUPERVISOR):
        with pytest.raises(WireError):
            decode(packet, kinds)


def test_what_json_does_not_hold_is_not_sent():
    for body in ({"frames": float("nan")}, {"report": b"bytes"}, {"report": "x" * MAX_BYTES}):
        with pytest.raises(WireError):
            encode("ended", body)


def test_a_long_error_is_cut():
    packet = json.dumps({"v": 1, "kind": "failed", "error": "x" * 9000}).encode()
    assert len(decode(packet, FROM_WORKER).body["error"]) == 4000
