"""The benchmark of hops is complete and its bars can be missed; no test judges a time."""

import json
import os

import pytest
from typer.testing import CliRunner

from lsd.lab import hops
from lsd.lab.hop_transports import INLETS, OUTLETS
from lsd.pipeline.frame import Size

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")

QUICK = ("ring, in place", "ring, copied in", "wire, ipc")


def result(**changes):
    times = {
        "ring, in place": {"p50": 0.2, "p99": 1.0, "ratio": 0.2},
        "ring, copied in": {"p50": 1.2, "p99": 2.0, "ratio": 1.2},
        "iceoryx2, in place": {"p50": 0.2, "p99": 1.0, "ratio": 0.2},
    }
    for name, p50 in changes.items():
        times[name.replace("_", ", ", 1).replace("_", " ")].update(p50=p50, ratio=p50)
    return {
        "sizes": {"1920x1080": times},
        "torn": {"reads": 10, "torn": 0},
        "ends": {"runs": 5, "delivered": 5},
    }


def kept(found):
    return [bar["kept"] for bar in hops.bars(found)]


def test_bars_are_kept_or_missed():
    assert kept(result()) == ["ok"] * 5
    assert kept(result(ring_in_place=0.36)) == ["fail", "ok", "fail", "ok", "ok"]
    assert kept(result(ring_copied_in=1.7)) == ["ok", "fail", "ok", "ok", "ok"]
    assert kept({**result(), "torn": {"reads": 10, "torn": 1}})[3] == "fail"
    assert kept({**result(), "ends": {"runs": 5, "delivered": 4}})[4] == "fail"


def test_bars_of_what_was_not_tried_are_left_out():
    found = result()
    del found["torn"], found["ends"], found["sizes"]["1920x1080"]["iceoryx2, in place"]
    assert len(hops.bars(found)) == 2


def test_every_transport_has_two_halves():
    assert OUTLETS.keys() == INLETS.keys()


@pytest.mark.slow
def test_command_measures_tries_and_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(hops, "OUTLETS", {name: OUTLETS[name] for name in QUICK})
    monkeypatch.setattr(hops, "SIZES", (Size(64, 48),))
    monkeypatch.setattr(hops, "RATE_HZ", 200.0)
    path = tmp_path / "out" / "hops.json"

    outcome = CliRunner().invoke(
        hops.app, ["--frames", "20", "--torn", "200", "--ends", "2", "--json", str(path)]
    )

    assert outcome.exit_code == 0, outcome.output
    found = json.loads(path.read_text())
    (times,) = found["sizes"].values()
    assert times.keys() == {"memcpy", *QUICK}
    for name, each in times.items():
        assert 0 < each["p50"] <= each["p99"], name
        assert 0 < each["frames"] <= 17, "the first of a turn do not count"
    assert times["memcpy"]["ratio"] == 1
    assert (found["torn"]["reads"], found["torn"]["torn"], found["torn"]["out_of_order"]) == (
        200, 0, 0,
    )  # fmt: skip
    assert found["ends"] == {"runs": 2, "delivered": 2}
    for text in ("ring, in place", "64x48", "last frames delivered"):
        assert text in outcome.output
