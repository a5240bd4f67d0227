"""The ends of a worker's links outlive the process at the other end."""

import threading

import pytest

from lsd.pipeline import crossing
from lsd.pipeline.crossing import Arriving, Company, Leaving
from lsd.pipeline.errors import LinkClosed, PeerLost
from lsd.pipeline.session import Gone


class Scripted:
    """A link that does what a test says: an exception is raised, else it is returned."""

    def __init__(self, *script):
        self.script, self.taken, self.is_left, self.age_s = list(script), [], False, None

    def _next(self):
        found = self.script.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def get(self, timeout_s=None):
        return self._next()

    def put(self, item, stopping=None):
        found = self._next()
        self.taken.append(item)
        return found

    def peer_age_s(self):
        return self.age_s

    def close(self):
        self.is_left = True


class Wire(Scripted):
    """A link to another host: a successor may go on with it."""

    is_withdrawn = False

    def withdraw(self):
        self.is_withdrawn = True


def test_a_death_is_told_and_the_successors_frames_come():
    told = []
    arriving = Arriving(
        lambda: Scripted(PeerLost("pid 7 died"), TimeoutError(), "frame"), told.append
    )
    assert arriving.get() == "frame"
    assert told == ["pid 7 died"]


def test_the_link_is_opened_when_the_first_frame_is_asked_for():
    opened = []
    arriving = Arriving(lambda: opened.append(1) or Scripted("one", "two"), print)
    assert opened == []
    assert (arriving.get(), arriving.get(), opened) == ("one", "two", [1])


def test_a_wait_ends_in_time_and_by_closing():
    arriving = Arriving(lambda: Scripted(*[TimeoutError()] * 1000), print)
    with pytest.raises(TimeoutError):
        arriving.get(0.0)
    arriving.close()
    with pytest.raises(LinkClosed, match="closed"):
        arriving.get()


def test_the_end_of_the_stream_is_the_end():
    with pytest.raises(LinkClosed, match="over"):
        Arriving(lambda: Scripted(LinkClosed("over")), print).get()


def test_a_frame_waits_for_the_successor_of_who_should_have_taken_it():
    link, told = Scripted(PeerLost("pid 7 died"), None), []
    assert Leaving(link, told.append).put("frame") is None
    assert (link.taken, told) == (["frame"], ["pid 7 died"])


def test_nobody_is_sent_anything_before_he_is_there():
    link = Scripted()
    leaving, stopping = Leaving(link, print), threading.Event()
    waiting = threading.Thread(target=leaving.wait_for_peer, args=(stopping,))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    link.age_s = 0.0
    waiting.join(10)
    assert not waiting.is_alive()


def test_waiting_for_nobody_ends_with_the_run():
    stopping = threading.Event()
    stopping.set()
    Leaving(Scripted(), print).wait_for_peer(stopping)


def test_leaving_in_order_is_said_to_the_link():
    link = Scripted("frame")
    arriving, leaving = Arriving(lambda: link, print), Leaving(Scripted(), print)
    arriving.leave()  # nobody has asked for anything: there is nothing to leave
    assert not link.is_left
    arriving.get()
    arriving.leave()
    leaving.leave()
    assert link.is_left


def test_frames_are_counted_as_they_cross():
    came, went = [], []
    arriving = Arriving(lambda: Wire("one", "two"), print, "camera", lambda: came.append(1))
    leaving = Leaving(Wire(None, "lost"), print, "screen", lambda: went.append(1))
    arriving.get(), arriving.get()
    assert (leaving.put("one"), leaving.put("two")) == (None, "lost")
    assert Leaving(Wire(None), print, "screen", lambda: went.append(1)).put(Gone(3)) is None
    assert Arriving(lambda: Wire(Gone(3)), print, "camera", lambda: came.append(1)).get() == Gone(3)
    assert (len(came), len(went)) == (2, 1), "neither what was lost nor what is gone has crossed"


def test_who_withdraws_takes_nothing_more_and_leaves_the_stream_to_a_successor():
    wire = Wire("frame")
    arriving, leaving = Arriving(lambda: wire, print, "camera"), Leaving(Wire(), print, "screen")
    arriving.get()
    arriving.withdraw()
    with pytest.raises(LinkClosed):
        arriving.get()
    arriving.leave()
    assert (wire.is_withdrawn, wire.is_left) == (True, False)
    leaving.withdraw()
    leaving.leave()
    assert (leaving._link.is_withdrawn, leaving._link.is_left) == (True, False)


def test_who_withdraws_takes_what_a_worker_of_its_own_host_still_has():
    ring = Scripted("frame", LinkClosed("over"))
    arriving = Arriving(lambda: ring, print)
    arriving.withdraw()
    assert arriving.get() == "frame"
    with pytest.raises(LinkClosed, match="over"):
        arriving.get()
    arriving.leave()
    assert ring.is_left


def test_waiting_for_another_host_is_told_now_and_then_and_its_end_once():
    told, clock = [], iter(range(0, 200, 5))
    company = Company("worker camera (tcp://10.0.0.1:7700)", told.append, lambda: next(clock))
    link = Wire()
    for _ in range(16):  # 0 to 75 s
        company.look(link)
    waits = [text for text in told if "waits for worker camera (tcp://10.0.0.1:7700) for" in text]
    assert [text.partition(" for ")[2].partition(" for ")[2][:4] for text in waits] == [
        "10 s",
        "70 s",
    ]
    assert "same keys" in waits[0]
    link.age_s = 0.1
    company.look(link)
    company.look(link)
    assert told[2:] == ["worker camera (tcp://10.0.0.1:7700) is there (again)"]


def test_who_is_there_in_time_is_not_told_of_and_on_this_host_nobody_is():
    told, clock = [], iter(range(0, 200, 5))
    company, link = Company("camera", told.append, lambda: next(clock)), Wire()
    company.look(link)
    link.age_s = 0.0
    company.look(link)
    link.age_s = None
    company.look(link)
    ours = Company(None, told.append, lambda: next(clock))
    for _ in range(10):
        ours.look(Wire())
    assert told == []


def test_who_is_over_is_waited_for_no_longer_than_what_he_has_put_lasts():
    link = Scripted(PeerLost("pid 7 died"), "last", TimeoutError())
    arriving = Arriving(lambda: link, lambda text: None)
    arriving.peer_is_over()
    assert arriving.get() == "last"
    with pytest.raises(LinkClosed, match="nobody succeeds"):
        arriving.get()


def test_what_is_put_just_before_the_end_is_told_is_still_taken():
    class Late(Scripted):
        def get(self, timeout_s=None):
            arriving.peer_is_over()  # comes while the first wait is on
            return super().get()

    arriving = Arriving(lambda: Late(TimeoutError(), "last", TimeoutError()), print)
    assert arriving.get() == "last"


def test_nothing_is_put_for_one_who_is_over():
    leaving = Leaving(Scripted(None), print)
    leaving.peer_is_over()
    with pytest.raises(LinkClosed):
        leaving.put("frame")


class Lingering(Wire):
    """One that notes how long it is to wait."""

    hurried = None

    def hurry(self, silent_s, at_most_s=None):
        self.hurried = silent_s, at_most_s


def test_when_the_run_ends_nobody_waits_long_for_who_is_away(monkeypatch):
    monkeypatch.setattr(crossing, "_FAREWELL_S", 0.0)
    wire = Wire(TimeoutError(), "late", TimeoutError())
    wire.age_s = 0.1
    arriving = Arriving(lambda: wire, print, "rack")
    arriving.stop()
    assert arriving.get() == "late", "who is there is waited for"
    wire.age_s = None
    with pytest.raises(LinkClosed, match="nobody is there"):
        arriving.get()
    own = Arriving(lambda: Scripted(TimeoutError(), "frame"), print)
    own.stop()
    assert own.get() == "frame", "of this host, the supervisor tells"


def test_who_sends_is_told_to_hurry_when_the_run_ends_and_more_so_when_it_is_killed():
    link = Lingering()
    leaving = Leaving(link, print, "rack")
    leaving.stop()
    assert link.hurried == (crossing._FAREWELL_S, None)
    leaving.kill()
    assert link.hurried == (crossing._KILLED_S, crossing._KILLED_S)
    with pytest.raises(LinkClosed):
        leaving.put("frame")
    Leaving(Scripted(), print).kill()  # a ring waits for nobody


def test_who_withdraws_before_anybody_was_there_does_not_wait_for_him():
    leaving = Leaving(Wire(), print, "rack")
    leaving.withdraw()
    leaving.wait_for_peer(threading.Event())


def test_why_nothing_that_comes_is_of_use_is_told_once():
    told = []
    wire = Wire(TimeoutError(), TimeoutError(), "frame")
    wire.age_s, wire.refusal = 0.1, "malformed: stream 'a', expected 'b'"
    assert Arriving(lambda: wire, told.append, "camera").get() == "frame"
    (text,) = told
    assert text.startswith("what camera sends cannot be used here: malformed: stream 'a'")
