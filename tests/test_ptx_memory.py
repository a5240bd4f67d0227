"""The executor finds every access to memory and every value that PTX does not define."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_text import IDS, LOAD, ORDERS, STORE, caught, kernel, launch, line_of, run, words

from lsd.lab.ptx.executor import Settings, Violation
from lsd.lab.ptx.poison import unwritten


@pytest.mark.parametrize("settings", ORDERS, ids=IDS)
def test_copy_runs_in_every_order(settings: Settings) -> None:
    x, y = words(96), np.zeros(96, np.uint32)
    # 3 blocks of 32
    body = " mov.u32 %r1, %ctaid.x;\n mul.wide.u32 %w0, %r1, 128;\n add.u64 %x, %x, %w0;\n"
    body += " add.u64 %y, %y, %w0;\n" + LOAD + STORE
    report = run(kernel(body), launch(x, y, blocks=3), settings)
    np.testing.assert_array_equal(y, x)
    assert report.instructions == 96 * 13


def test_access_past_a_buffer_names_line_thread_address_and_buffer() -> None:
    text = kernel(" ld.global.b32 %r0, [%x+4];\n" + STORE)
    fault = caught(text, words(), words())
    assert (fault.kind, fault.thread, fault.block) == ("bounds", (31, 0, 0), (0, 0, 0))
    assert fault.line == line_of(text, "[%x+4]")
    assert "4 bytes at byte 128 of buffer x (128 bytes), address 0x" in str(fault)
    run(kernel(LOAD + STORE), launch(words(), words()))


def test_access_before_a_buffer_is_out_of_bounds() -> None:
    fault = caught(kernel(" ld.global.b32 %r0, [%x-4];\n" + STORE), words(), words())
    assert (fault.kind, fault.thread) == ("bounds", (0, 0, 0))


def test_vector_that_ends_past_a_buffer_is_out_of_bounds() -> None:
    body = " ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%x+16];\n"
    assert caught(kernel(body, threads=1), words(7), words(), threads=1).kind == "bounds"
    run(kernel(body, threads=1), launch(words(8), words(), threads=1))


def test_null_pointer_is_out_of_bounds() -> None:
    fault = caught(kernel(LOAD), None, words())
    assert fault.kind == "bounds"
    assert "null pointer" in str(fault)


def test_offset_between_two_buffers_does_not_reach_the_other() -> None:
    body = " sub.u64 %w0, %y, %x;\n add.u64 %w1, %x, 4096;\n ld.global.b32 %r0, [%w1];\n"
    assert caught(kernel(body), words(), words()).kind == "bounds"


def test_write_to_a_read_only_buffer_is_refused() -> None:
    y = words()
    y.flags.writeable = False
    assert "read-only" in str(caught(kernel(" mov.b32 %r0, 1;\n" + STORE), words(), y))


def test_misaligned_access_is_caught() -> None:
    body = " ld.global.v2.b32 {%r0, %r1}, [%x];\n"
    fault = caught(kernel(body, threads=2), words(), words(), threads=2)
    assert (fault.kind, fault.thread) == ("alignment", (1, 0, 0))


def test_slice_of_a_buffer_keeps_its_alignment() -> None:
    body = " ld.global.v2.b32 {%r0, %r1}, [%x];\n"
    assert caught(kernel(body, threads=1), words()[1:], words(), threads=1).kind == "alignment"
    run(kernel(body, threads=1), launch(words()[2:], words(), threads=1))


def test_two_writers_of_a_global_byte_are_caught_whatever_they_write() -> None:
    text = kernel(" mov.b32 %r0, 1;\n" + STORE, own=False)
    fault = caught(text, words(), words())
    assert (fault.kind, fault.thread) == ("write-write", (1, 0, 0))
    assert "thread (0, 0, 0) of block (0, 0, 0) writes too" in str(fault)
    run(kernel(" mov.b32 %r0, 1;\n" + STORE), launch(words(), words()))


def test_neighbours_may_write_neighbouring_bytes() -> None:
    body = " cvt.u64.u32 %w0, %t;\n add.u64 %y, %y, %w0;\n st.global.u8 [%y], %t;\n"
    y = np.zeros(32, np.uint8)
    run(kernel(body, own=False), launch(words(), y))
    np.testing.assert_array_equal(y, np.arange(32))


@pytest.mark.parametrize("settings", ORDERS, ids=IDS)
def test_reading_what_another_thread_writes_is_a_race_in_every_order(settings: Settings) -> None:
    # thread t reads its right neighbour's word of the buffer it writes
    body = " setp.eq.u32 %p0, %t, 31;\n @!%p0 ld.global.b32 %r0, [%y+4];\n mov.b32 %r1, 1;\n"
    text = kernel(body + " st.global.b32 [%y], %r1;\n")
    with pytest.raises(Violation) as error:
        run(text, launch(words(), words()), settings)
    assert error.value.kind == "race"


def test_thread_may_read_back_its_own_write() -> None:
    y = words()
    run(kernel(" mov.b32 %r0, 7;\n" + STORE + " ld.global.b32 %r1, [%y];\n"), launch(words(), y))
    assert set(y.tolist()) == {7}


def test_two_arguments_that_overlap_share_their_races() -> None:
    both = words(64)
    # x is the buffer shifted by one word: thread t reads what thread t + 1 writes
    assert caught(kernel(LOAD + STORE), both[1:33], both[:32]).kind == "race"
    run(kernel(LOAD + STORE), launch(both[:32], both[:32]))


def test_non_coherent_load_of_a_written_byte_is_a_race() -> None:
    text = kernel(" ld.global.nc.b32 %r0, [%y];\n" + STORE)
    assert caught(text, words(), words()).kind == "race"
    text = kernel(" mov.b32 %r0, 1;\n" + STORE + " ld.global.nc.b32 %r0, [%y];\n")
    assert "ld.global.nc" in str(caught(text, words(), words()))


@pytest.mark.parametrize("settings", ORDERS, ids=IDS)
def test_atomics_meet_atomics_but_not_plain_accesses(settings: Settings) -> None:
    body = " atom.global.add.u32 %r0, [%x], 2;\n red.global.max.u32 [%x+4], %t;\n"
    x = np.zeros(32, np.uint32)
    run(kernel(body, own=False), launch(x, words()), settings)
    assert x[:2].tolist() == [64, 31]
    for plain in (" st.global.b32 [%x], %t;\n", " ld.global.b32 %r1, [%x];\n"):
        for text in (body + plain, plain + body):
            with pytest.raises(Violation, match=r"race|write-write"):
                run(kernel(text, own=False), launch(x, words()), settings)


# what was never written


def test_register_that_was_never_written_is_caught() -> None:
    text = kernel(" add.u32 %r0, %r1, 1;\n" + STORE)
    fault = caught(text, words(), words())
    assert (fault.kind, fault.line) == ("poison", line_of(text, "add.u32 %r0"))
    assert "register %r1 was never written" in str(fault)
    run(kernel(" mov.b32 %r1, 1;\n add.u32 %r0, %r1, 1;\n" + STORE), launch(words(), words()))


def test_register_written_under_a_guard_is_poison_to_the_others() -> None:
    body = " setp.lt.u32 %p0, %t, 5;\n @%p0 mov.b32 %r0, 1;\n"
    assert caught(kernel(body + STORE), words(), words()).thread == (5, 0, 0)
    run(kernel(body + " @%p0 st.global.b32 [%y], %r0;\n"), launch(words(), words()))


def test_register_keeps_its_poison_across_a_barrier() -> None:
    body = " setp.lt.u32 %p0, %t, 5;\n @%p0 mov.b32 %r0, 1;\n bar.sync 0;\n"
    assert caught(kernel(body + STORE), words(), words()).thread == (5, 0, 0)
    run(kernel(body + " @%p0 st.global.b32 [%y], %r0;\n"), launch(words(), words()))


def test_fresh_buffer_may_not_be_read_before_it_is_written() -> None:
    y = unwritten(32, np.float32)
    fault = caught(kernel(" ld.global.b32 %r0, [%y];\n"), words(), y)
    assert fault.kind == "poison"
    assert "nothing was written" in str(fault)


def test_fresh_buffer_remembers_across_launches_which_bytes_were_written() -> None:
    y = unwritten(32, np.uint32)
    body = " setp.ne.u32 %p0, %t, 9;\n @%p0 st.global.b32 [%y], %t;\n"
    run(kernel(body), launch(words(), y))
    assert caught(kernel(" ld.global.b32 %r0, [%y];\n"), words(), y).thread == (9, 0, 0)
    run(kernel(" st.global.b32 [%y], %t;\n"), launch(words(), y))
    run(kernel(" ld.global.b32 %r0, [%x];\n"), launch(y[:16].repeat(2), words()))


def test_division_by_zero_has_no_result() -> None:
    fault = caught(kernel(" mov.b32 %r0, 0;\n div.u32 %r1, %t, %r0;\n"), words(), words())
    assert (fault.kind, "no result" in str(fault)) == ("poison", True)
