"""Questions from other threads: asked in the loop, answered or given up, nobody left waiting."""

from __future__ import annotations

import selectors
import threading
import time

import pytest

from lsd.pipeline.inquiry import Inquiry


class Worker:
    def __init__(self, is_there=True):
        self.told_ns, self.is_there, self.asked = 0, is_there, threading.Event()

    def ask(self):
        self.asked_in = threading.current_thread()
        self.asked.set()

    def tell(self):
        self.told_ns = time.monotonic_ns()


@pytest.fixture
def loop():
    """A supervisor's loop in a thread of its own, and the inquiry in it."""
    selector = selectors.DefaultSelector()
    inquiry, ended = Inquiry(selector), threading.Event()

    def run():
        while not ended.is_set():
            inquiry.look()
            for key, _ in selector.select(0.01):
                key.data()
        inquiry.close()
        selector.close()

    thread = threading.Thread(target=run)
    thread.start()
    inquiry.thread, inquiry.end = thread, ended.set
    yield inquiry
    ended.set()
    thread.join()


def asking(inquiry, *workers, patience_s=60.0):
    """Ask in another thread; return it, and what it sets once it has its answer."""
    answered = threading.Event()

    def ask():
        inquiry.ask(workers, patience_s)
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered


def test_it_is_asked_in_the_loop_and_all_that_are_there_are_waited_for(loop):
    first, second, gone = Worker(), Worker(), Worker(is_there=False)
    first.tell()  # before: that is no answer
    answered = asking(loop, first, second, gone)
    assert second.asked.wait(30)
    assert first.asked_in is loop.thread
    second.tell()
    assert not answered.wait(0.05)
    first.tell()
    assert answered.wait(30)


def test_one_that_dies_meanwhile_is_waited_for_no_more(loop):
    worker = Worker()
    answered = asking(loop, worker)
    assert worker.asked.wait(30)
    worker.is_there = False
    assert answered.wait(30)


def test_one_that_hangs_costs_no_more_than_the_patience(loop):
    assert asking(loop, Worker(), patience_s=0.01).wait(30)


def test_the_end_of_the_loop_lets_everybody_go_and_later_ones_too(loop):
    worker = Worker()
    answered = asking(loop, worker)
    assert worker.asked.wait(30)
    loop.end()
    loop.thread.join()
    assert answered.wait(30)
    assert asking(loop, Worker()).wait(30)
