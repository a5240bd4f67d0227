"""Workers on two hosts: a cut cable, a killed worker, a host that goes and comes, a film whole."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing

import pytest
from supervised_runs import await_that
from two_hosts import LIVESD, PIPELINE, Run, balance, hosts

pytestmark = pytest.mark.slow


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Yield what writes the pipeline, and both hosts."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    subprocess.run([str(LIVESD), "keys", str(tmp_path / "lsd.keys")], check=True)
    with hosts() as (desk, rack):

        def write(**values):
            text = PIPELINE.format(desk=desk.address, rack=rack.address, **values)
            (tmp_path / "trial.yaml").write_text(text)

        yield write, desk, rack


def cut(rack, desk_run):
    """Pull the cable until both sides have noticed, and plug it in again."""
    if rack.space is None:
        return
    lost, again = "nothing was heard", "is there (again)"
    before = desk_run.told.count(lost), desk_run.told.count(again)
    rack.cable("down")
    desk_run.await_told(lost, before[0] + 2)  # camera and screen
    rack.cable("up")
    desk_run.await_told(again, before[1] + 2)


def test_live_the_stream_goes_on_whatever_becomes_of_cable_worker_and_host(two, tmp_path):
    write, desk, rack = two
    write(live="true", input="test://moving", output="live/%05d.png")
    with closing(Run(desk, tmp_path)) as here, closing(Run(rack, tmp_path)) as there:
        await_that(lambda: len(list(tmp_path.glob("live/*.png"))) > 10, "some pictures")
        cut(rack, here)

        os.kill(there.pid_of("middle"), signal.SIGKILL)
        there.await_told("middle: ready", 2)
        again = here.told.count("is there (again)")
        there.interrupt()  # makes room for a successor, and ends the stream for nobody
        gone = there.report()
        assert gone["code"] == 130
        assert balance(gone) == 0

        with closing(Run(rack, tmp_path)) as back:
            here.await_told("is there (again)", again + 2)
            here.interrupt()  # the source ends, and with it all of it
            ours, theirs = here.report(), back.report()
    assert (ours["code"], theirs["code"]) == (130, 0)
    assert balance(ours) == balance(theirs) == 0
    frames = [each["frames"] for each in (ours, gone, theirs)]
    captured, emitted = frames[0]["captured"], frames[0]["emitted"]
    assert 0 < emitted < captured
    # What one host has sent and the other has not received went with a process that died; what
    # it has received twice, its predecessor had taken when it died.
    way = [frames[0]["sent"], frames[1]["received"] + frames[2].get("received", 0)]
    assert abs(way[0] - way[1]) <= 2
    dropped = sum(sum(each["dropped"].values()) for each in frames)
    way_back = frames[1]["sent"] + frames[2].get("sent", 0) - frames[0]["received"]
    assert captured == emitted + dropped + (way[0] - way[1]) + way_back


def test_a_film_arrives_whole_over_a_cable_that_is_cut(two, tmp_path):
    write, desk, rack = two
    source = "test://moving?frames=800"  # that it has not ended when the cable is cut
    write(live="false", input=source, output="whole/%05d.png")
    with closing(Run(rack, tmp_path)) as there, closing(Run(desk, tmp_path)) as here:
        await_that(lambda: len(list(tmp_path.glob("whole/*.png"))) > 10, "some pictures")
        cut(rack, here)
        ours, theirs = here.report(), there.report()
    assert (ours["code"], theirs["code"]) == (0, 0)
    assert (ours["frames"]["captured"], ours["frames"]["emitted"]) == (800, 800)
    assert theirs["frames"]["received"] == theirs["frames"]["sent"] == 800
    alone = (tmp_path / "trial.yaml").read_text().partition("hosts:")[0].replace("whole/", "one/")
    (tmp_path / "one.yaml").write_text(alone)
    subprocess.run([str(LIVESD), "run", "one.yaml", "-q"], cwd=tmp_path, check=True)
    wanted = [path.read_bytes() for path in sorted(tmp_path.glob("one/*.png"))]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("whole/*.png"))] == wanted
