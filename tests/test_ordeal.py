"""What an ordeal of the real workers is made of; CI runs a whole one (`make chaos`)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from supervised_runs import await_that

from lsd.lab.chaos import BrokenPromise
from lsd.lab.fake_camera import FakeCamera
from lsd.lab.leftovers import holders, memory_files, process
from lsd.lab.ordeal import Deed
from lsd.lab.ordeal_command import judged
from lsd.lab.viewer import Viewer
from lsd.pipeline.deployment import sealed_file
from lsd.pipeline.frame import Size


@pytest.fixture
def camera():
    camera = FakeCamera(Size(64, 64), 50.0)
    yield camera
    camera.close()


@pytest.fixture
def viewer(camera):
    viewer = Viewer(camera._port)
    yield viewer
    viewer.close()


def more(viewer, count=5):
    before = viewer.pictures
    await_that(lambda: viewer.pictures >= before + count, "pictures")


@pytest.mark.parametrize("trouble", ["vanish", "fall_silent"])
def test_a_viewer_sees_a_camera_go_and_come_back(camera, viewer, trouble):
    more(viewer)
    getattr(camera, trouble)()
    if trouble == "vanish":
        await_that(lambda: viewer._socket is None, "the end of the connection")
    camera.come_back()
    more(viewer)


def test_gaps_are_cut_to_the_time_that_is_asked_for(viewer):
    more(viewer, 1)
    viewer.close()
    viewer._arrived_s.clear()
    viewer._arrived_s.extend([1.0, 1.5, 4.0])
    assert viewer.longest_gap_s(1.0, 4.0) == 2.5
    assert viewer.longest_gap_s(2.0, 3.0) == 1.0, "nothing came in all of it"
    assert viewer.longest_gap_s(3.5, 9.0) == 5.0
    assert viewer.count(1.0, 3.0) == 2


def gaps(*ms):
    return [Deed(f"act {number}", 1.0, gap / 1000) for number, gap in enumerate(ms)]


def test_gaps_within_two_periods_hold_and_noise_on_fewer_than_half_does():
    assert judged(gaps(50, 79, 81)).startswith("1 of 3 acts had a gap of more than two periods")
    assert judged([Deed("kill screen", 3.0, None)]) == "no act that the output had to bridge"


@pytest.mark.parametrize("found", [gaps(81, 81, 82, 50, 50), gaps(50, 60, 501)])
def test_an_output_that_stood_still_is_told_with_the_act(found):
    with pytest.raises(BrokenPromise, match=r"the longest of (82|501) ms, at act 2"):
        judged(found)


def test_a_process_that_has_ended_is_nobody_and_its_number_is_not_taken_for_it():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = process(child.pid)
    assert found is not None
    assert found == process(child.pid)
    child.communicate()
    assert process(child.pid) is None
    assert process(os.getpid()) != (os.getpid(), found[1])


def test_memory_of_a_run_is_found_as_long_as_somebody_holds_it():
    fd = sealed_file("trial", b"all of it")
    status = os.fstat(fd)
    memory = {(status.st_dev, status.st_ino)}
    assert memory <= memory_files(os.getpid())
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(fd,)
    )
    assert set(holders(memory)) == {os.getpid(), child.pid}
    os.close(fd)
    assert holders(memory) == [child.pid]
    child.communicate()
    assert holders(memory) == []
