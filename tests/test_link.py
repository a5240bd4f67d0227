import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.link import Link


def drained(link):
    items = []
    link.close()
    while True:
        try:
            items.append(link.get())
        except LinkClosed:
            return items


def test_full_drop_oldest_link_drops_the_oldest_and_returns_it():
    link = Link(2, "drop_oldest")
    assert [link.put(item) for item in "abcd"] == [None, None, "a", "b"]
    assert drained(link) == ["c", "d"]


def test_full_block_link_makes_put_wait_until_an_item_is_taken():
    link = Link(1, "block")
    link.put(1)
    second = threading.Thread(target=link.put, args=(2,))
    second.start()
    assert [link.get(5), link.get(5)] == [1, 2]
    second.join(5)
    assert not second.is_alive()


def test_put_on_a_full_block_link_gives_up_when_stopping_is_set():
    link, stopping = Link(1, "block"), threading.Event()
    link.put("kept")
    stopping.set()
    assert link.put("given up", stopping) == "given up"
    assert link.stats().dropped == 1
    assert drained(link) == ["kept"]


def test_get_takes_what_is_left_after_close_and_then_reports_the_end():
    link = Link(2, "block")
    link.put("left")
    link.close()
    assert link.get() == "left"
    with pytest.raises(LinkClosed, match="nothing is left"):
        link.get()


def test_put_after_close_is_refused_and_not_counted():
    link = Link(1, "drop_oldest")
    link.close()
    with pytest.raises(LinkClosed, match="nothing can be put"):
        link.put(1)
    assert link.stats().put == 0


def test_close_wakes_a_waiting_put():
    link, outcome = Link(1, "block"), []
    link.put(1)

    def put():
        try:
            link.put(2)
        except LinkClosed as error:
            outcome.append(error)

    waiting = threading.Thread(target=put)
    waiting.start()
    link.close()
    waiting.join(5)
    assert len(outcome) == 1


def test_close_wakes_a_waiting_get():
    link, outcome = Link(1, "block"), []

    def get():
        try:
            link.get()
        except LinkClosed as error:
            outcome.append(error)

    waiting = threading.Thread(target=get)
    waiting.start()
    link.close()
    waiting.join(5)
    assert len(outcome) == 1


def test_get_with_nothing_there_times_out():
    with pytest.raises(TimeoutError, match="no item within 0 s"):
        Link(1, "block").get(0)


@given(
    capacity=st.integers(1, 4),
    policy=st.sampled_from(["block", "drop_oldest"]),
    steps=st.lists(st.sampled_from(["put", "get"]), max_size=60),
)
def test_link_behaves_like_a_bounded_queue(capacity, policy, steps):
    link, model, dropped = Link(capacity, policy), deque(), 0
    full_block = threading.Event()
    full_block.set()  # so that a full `block` link gives up instead of waiting
    for number, step in enumerate(steps):
        if step == "put":
            lost = None
            if len(model) == capacity:
                lost = number if policy == "block" else model.popleft()
                dropped += 1
            if lost != number:
                model.append(number)
            assert link.put(number, full_block) == lost
        elif model:
            assert link.get(0) == model.popleft()
        else:
            with pytest.raises(TimeoutError, match="no item"):
                link.get(0)
        stats = link.stats()
        assert stats.depth == len(model) <= capacity
        assert stats.dropped == dropped
        assert stats.put == stats.got + stats.dropped + stats.depth
    assert drained(link) == list(model)


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_two_threads_keep_order_and_lose_nothing_uncounted(capacity, policy):
    link, lost, count = Link(capacity, policy), [], 2000

    def produce():
        for number in range(count):
            item = link.put(number)
            if item is not None:
                lost.append(item)
        link.close()

    producer = threading.Thread(target=produce)
    producer.start()
    got = []
    try:
        while True:
            got.append(link.get(5))
    except LinkClosed:
        producer.join(5)
    assert got == sorted(got)
    assert sorted(got + lost) == list(range(count))
    assert got[-1] == count - 1, "the newest is never the one that is lost"
    assert policy == "drop_oldest" or not lost
