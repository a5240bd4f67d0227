"""The driver's layer on the fake libcuda: probing, errors in words, memory, streams, modules."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from lsd.kernels import driver
from lsd.kernels.array import DeviceArray, Pool
from lsd.kernels.driver import device, device_count, why_not
from lsd.kernels.module import Module
from lsd.kernels.streams import Event, Stream, handle_of
from lsd.pipeline.errors import KernelError

NO_DEVICE, MISMATCH, OUT_OF_MEMORY, UNSUPPORTED_PTX = 100, 803, 2, 222
EMPTY = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry nothing_f32(.param .u64 x, .param .u32 count)
.reqntid 32, 1, 1
{
    ret;
}
"""


def bare_process(code: str) -> str:
    """Run `code` in a process without the fake; return what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


# Probing


@pytest.mark.usefixtures("fake_cuda")  # skips where a driver is
def test_missing_driver_is_no_card_and_a_reason():
    code = (
        "from lsd.kernels.driver import device, device_count, why_not\n"
        "print(device_count(), why_not())\n"
        "try:\n    device(0)\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    first, second = bare_process(code).splitlines()
    assert first.startswith("0 no NVIDIA driver that can be used: ")
    assert second.startswith("KernelError cuda:0: no NVIDIA driver that can be used: ")


def test_missing_bindings_are_no_card_and_a_reason(monkeypatch):
    monkeypatch.setattr(driver, "cuda", None)
    assert device_count() == 0
    assert why_not() == "cuda-python is not installed (try: pip install 'cuda-python>=13.4,<14')"


def test_driver_that_is_too_old_says_which_is_needed(card):
    card.set_version(11080)
    assert device_count() == 0
    with pytest.raises(KernelError, match=r"knows CUDA 11\.8, the kernels need 12\.0; update"):
        device(0)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (NO_DEVICE, r"CUDA_ERROR_NO_DEVICE 100 \(no CUDA-capable device is detected\); no NVIDIA"),
        (MISMATCH, r"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH 803 .*; restart the machine"),
    ],
)
def test_driver_that_does_not_start_says_why(card, code, text):
    card.fail("cuInit", code)
    with pytest.raises(KernelError, match=text):
        device(0)


def test_a_card_is_found_and_named(card):
    assert (why_not(), device_count()) == (None, 1)
    found = device(0)
    assert (found.name, found.capability) == ("Fake card", (8, 0))
    assert found.bandwidth() == 16e9  # 1 GHz, 64 bits, two transfers a clock


def test_a_card_that_is_not_there_is_an_error(card):
    with pytest.raises(KernelError, match=r"cuda:3: found 1 card\(s\), from cuda:0; set device"):
        device(3)


def test_a_card_that_is_too_old_is_an_error(card):
    card.set_capability(75)
    with pytest.raises(KernelError, match="the Fake card is sm_75, the kernels need sm_80"):
        device(0)


# Context


def test_a_thread_without_a_context_is_told_so_and_activate_helps(card):
    found, said = device(0), []

    def work():
        try:
            driver.allocate(16, "first")
        except KernelError as error:
            said.append(str(error))
        found.activate()
        driver.release(driver.allocate(16, "second"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (text,) = said
    assert "CUDA_ERROR_INVALID_CONTEXT 201" in text
    assert "Device.activate() comes first" in text


def test_the_context_is_the_primary_one_and_shared(card):
    assert device(0) is device(0)
    assert card.calls("cuDevicePrimaryCtxRetain") == 1


# Memory


def test_a_full_card_says_how_full(card):
    card.start(limit=3 << 20)
    device(0)
    driver.allocate(2 << 20, "pictures")
    with pytest.raises(KernelError) as caught:
        driver.allocate(2 << 20, "pictures")
    assert str(caught.value) == (
        "pictures: 2097152 bytes; 1 of 3 MiB are free: CUDA_ERROR_OUT_OF_MEMORY 2 (out of memory);"
        " the card is full: use a smaller size, or close what else uses it"
    )


def test_a_picture_goes_to_the_card_and_back_through_pinned_memory(card):
    stream = Stream(device(0), "copies")
    there, back = driver.pinned((3, 5), np.float32), driver.pinned((3, 5), np.float32)
    there[:] = np.arange(15).reshape(3, 5)
    array = Pool("test").take((3, 5), np.float32)
    array.upload(there, stream)
    array.download(back, stream)
    assert np.isnan(back).all(), "late: nothing has run yet"
    stream.synchronize()
    assert (back == there).all()
    assert card.calls("pageable") == 0


def test_what_is_fresh_on_the_card_is_poison(card):
    stream, back = Stream(device(0), "copies"), driver.pinned((4,), np.float32)
    back[:] = 0
    Pool("test").take((4,), np.float32).download(back, stream)
    stream.synchronize()
    assert np.isnan(back).all()


def test_pageable_memory_makes_the_driver_wait(card):
    stream = Stream(device(0), "copies")
    Pool("test").take((4,), np.uint8).upload(np.zeros(4, np.uint8), stream)
    assert card.calls("pageable") == 1


@pytest.mark.parametrize(
    ("host", "found"),
    [
        (np.zeros((3, 4), np.float32), r"float32 \[3, 4\] on the host"),
        (np.zeros((4, 3), np.uint8), r"uint8 \[4, 3\] on the host"),
        (np.zeros((3, 4), np.float32).T, r"float32 \[4, 3\] not C-contiguous on the host"),
    ],
)
def test_a_copy_of_another_form_is_refused(card, host, found):
    stream = Stream(device(0), "copies")
    array = Pool("test").take((4, 3), np.float32)
    with pytest.raises(KernelError, match=f"upload: got {found}, expected float32 .4, 3."):
        array.upload(host, stream)


def test_a_pool_reuses_memory_of_the_same_size_only(card):
    device(0)
    pool = Pool("test")
    first = pool.take((2, 6), np.float32)
    pointer = first.pointer
    view = first.reshape(3, 4)[1]
    assert view.pointer == pointer + 16
    del first
    other = pool.take((3, 4), np.float32)
    assert other.pointer != pointer, "a view still lives in it"
    del view
    assert pool.take((48,), np.uint8).pointer == pointer
    assert card.calls("cuMemAlloc_v2") == 2
    del other
    pool.close()
    assert card.used_bytes == 0


def test_an_array_describes_itself_by_the_protocol():
    array = DeviceArray(4096, (2, 3), np.float16)
    assert array.__cuda_array_interface__ == {
        "shape": (2, 3),
        "typestr": "<f2",
        "data": (4096, False),
        "strides": None,
        "version": 3,
        "stream": None,
    }
    with pytest.raises(KernelError, match=r"reshape: \[2, 3\] has other elements than \[4\]"):
        array.reshape(4)


# Streams and events


@pytest.mark.parametrize("waits", [True, False])
def test_only_an_event_orders_two_streams(card, waits):
    first, second = Stream(device(0), "first"), Stream(device(0), "second")
    array = Pool("test").take((4,), np.uint8)
    there, back = driver.pinned((4,), np.uint8), driver.pinned((4,), np.uint8)
    there[:] = 7
    filled = Event("filled")
    array.upload(there, first)
    filled.record(first)
    if waits:
        filled.wait(second)
    array.download(back, second)
    second.synchronize()
    assert (back == 7).all() == waits
    assert filled.is_done() == waits


def test_an_early_stream_still_waits_for_a_late_one(card):
    late, early = Stream(device(0), "late"), Stream(device(0), "early")
    card.set_mode(early, 1)
    array = Pool("test").take((4,), np.uint8)
    there, back = driver.pinned((4,), np.uint8), driver.pinned((4,), np.uint8)
    there[:] = 7
    filled = Event("filled")
    array.upload(there, late)
    filled.record(late)
    filled.wait(early)
    array.download(back, early)
    assert (back == 255).all(), "poison: the late stream has not run"
    filled.synchronize()
    assert (back == 7).all(), "nobody waited for the early stream itself"


def test_a_stream_of_anybody_is_taken_by_the_protocol(card):
    class Theirs:
        def __cuda_stream__(self):
            return 0, int(mine.handle)

    mine = Stream(device(0), "mine")
    assert int(handle_of(Theirs())) == int(mine.handle)
    event = Event("theirs")
    event.record(Theirs())
    event.synchronize()
    assert event.is_done()


def test_what_is_no_stream_is_refused(card):
    with pytest.raises(KernelError, match="got int, expected an object with __cuda_stream__"):
        handle_of(0)


# Modules


def test_a_text_is_loaded_and_its_entries_are_found(card):
    module = Module(device(0), EMPTY, "nothing")
    assert module.info == ["assembled by the fake"]
    module.function("nothing_f32")
    with pytest.raises(KernelError, match="kernel 'nothing' has no entry 'other': CUDA_ERROR_NOT"):
        module.function("other")


def test_a_text_that_the_driver_refuses_shows_the_log(card):
    with pytest.raises(KernelError) as caught:
        Module(device(0), EMPTY.replace("ret;", "retire;"), "nothing")
    text = str(caught.value)
    assert text.startswith("kernel 'nothing' on cuda:0 (Fake card, sm_80): CUDA_ERROR_INVALID_PTX")
    assert "install livesd again; the JIT says: ptxas " in text
    assert "line 8" in text


def test_ptx_that_is_newer_than_the_driver_says_to_update(card):
    found = device(0)
    card.fail("cuModuleLoadDataEx", UNSUPPORTED_PTX)
    with pytest.raises(KernelError, match=r"UNSUPPORTED_PTX_VERSION 222 .*; update the NVIDIA dri"):
        Module(found, EMPTY, "nothing")


def test_closing_gives_streams_and_events_back(card):
    stream, event = Stream(device(0), "s"), Event("e", timed=True)
    start = Event("start", timed=True)
    start.record(stream)
    event.record(stream)
    stream.synchronize()
    assert event.ms_since(start) == 1.0  # the fake's only time
    event.close()
    stream.close()
    assert card.calls("cuStreamDestroy_v2", "cuEventDestroy_v2") == 2
