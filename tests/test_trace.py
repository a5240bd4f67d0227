import threading

from lsd.pipeline.trace import Span, Trace


def test_spans_come_back_in_order_of_their_end():
    trace = Trace(["capture", "blend"], capacity=8)
    trace.record(1, 0, 10, 20, 30)
    trace.record(0, 1, 12, 13, 14)
    assert trace.spans() == [Span("capture", 1, 12, 13, 14), Span("blend", 0, 10, 20, 30)]


def test_full_ring_overwrites_the_oldest_spans():
    trace = Trace(["blend"], capacity=3)
    for seq in range(5):
        trace.record(0, seq, seq, seq, seq)
    assert [span.seq for span in trace.spans()] == [2, 3, 4]


def test_fresh_ring_holds_nothing():
    assert Trace(["blend"], capacity=4).spans() == []


def test_span_at_time_zero_is_kept():
    trace = Trace(["blend"], capacity=4)
    trace.record(0, 0, 0, 0, 0)
    assert trace.spans() == [Span("blend", 0, 0, 0, 0)]


def test_threads_record_side_by_side_without_losing_spans():
    trace = Trace(["a", "b", "c"], capacity=3000)

    def work(place):
        for seq in range(1000):
            trace.record(place, seq, seq, seq, seq)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "abc":
        assert [span.seq for span in trace.spans() if span.stage == name] == list(range(1000))
