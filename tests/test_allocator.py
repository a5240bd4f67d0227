"""The allocator's setting: it takes where there is glibc, and is harmless elsewhere."""

import sys

from lsd.pipeline import allocator


def test_elsewhere_than_on_linux_nothing_is_touched(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False


def test_c_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False


def test_both_thresholds_are_set_where_mallopt_is(monkeypatch):
    calls = []

    class Library:
        @staticmethod
        def mallopt(option, value):
            calls.append((option, value))
            return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Library)
    assert allocator.keep_freed_memory() is True
    assert [option for option, _ in calls] == [-3, -1]  # malloc.h: mmap, then trim threshold
