"""The executor finds each fault between the threads of a block or a warp."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_text import IDS, ORDERS, STORE, caught, kernel, launch, line_of, run, words

from lsd.lab.ptx.executor import Settings, Violation

SHARED = "    .shared .align 16 .b8 tile[128];\n"
# each thread clears its word; then writes it and reads its right neighbour's
EXCHANGE = """
    mov.u32 %r1, tile;
    shl.b32 %r2, %t, 2;
    add.u32 %r1, %r1, %r2;
    st.shared.b32 [%r1], 0;
    bar.sync 0;
    st.shared.b32 [%r1], %t;
    BARRIER
    setp.eq.u32 %p0, %t, 31;
    selp.b32 %r3, -124, 4, %p0;
    add.u32 %r1, %r1, %r3;
    ld.shared.b32 %r0, [%r1];
"""
BARRIER = EXCHANGE.replace("BARRIER", "bar.sync 0;")


@pytest.mark.parametrize("settings", ORDERS, ids=IDS)
def test_missing_barrier_is_a_race_in_every_order(settings: Settings) -> None:
    y = np.zeros(32, np.uint32)
    run(kernel(SHARED + BARRIER + STORE), launch(words(), y), settings)
    np.testing.assert_array_equal(y, np.roll(np.arange(32), -1))
    text = kernel(SHARED + EXCHANGE.replace("BARRIER", "") + STORE)
    with pytest.raises(Violation) as error:
        run(text, launch(words(), y), settings)
    assert error.value.kind == "race"


@pytest.mark.parametrize("settings", ORDERS, ids=IDS)
def test_shared_memory_that_nobody_wrote_is_poison(settings: Settings) -> None:
    with pytest.raises(Violation, match=r"poison: reads 4 bytes at byte 0 of shared array tile"):
        run(kernel(SHARED + " ld.shared.b32 %r0, [tile];\n"), launch(words(), words()), settings)


def test_warp_collective_does_not_order_shared_memory() -> None:
    body = EXCHANGE.replace("BARRIER", "shfl.sync.bfly.b32 %r5, %t, 1, 31, -1;")
    assert caught(kernel(SHARED + body + STORE), words(), words()).kind == "race"


def test_second_round_needs_a_second_barrier() -> None:
    again = " mov.u32 %r1, tile;\n add.u32 %r1, %r1, %r2;\n {}\n st.shared.b32 [%r1], %r0;\n"
    text = kernel(SHARED + BARRIER + again.format(""))
    fault = caught(text, words(), words())
    assert fault.kind == "race"
    assert "reads, with no barrier between" in str(fault)
    run(kernel(SHARED + BARRIER + again.format("bar.sync 0;")), launch(words(), words()))


def test_shared_memory_is_poison_at_the_start_of_every_block() -> None:
    body = " mov.u32 %r1, %ctaid.x;\n setp.eq.u32 %p0, %r1, 0;\n setp.eq.u32 %p1, %t, 0;\n"
    body += " and.pred %p0, %p0, %p1;\n @%p0 st.shared.b32 [tile], %t;\n bar.sync 0;\n"
    body += " @%p1 ld.shared.b32 %r0, [tile];\n"
    fault = caught(kernel(SHARED + body), words(), words(), blocks=2)
    assert (fault.kind, fault.block) == ("poison", (1, 0, 0))


def test_shared_access_out_of_bounds_names_the_array() -> None:
    fault = caught(kernel(SHARED + " st.shared.b32 [tile+128], %t;\n"), words(), words())
    assert fault.kind == "bounds"
    assert "byte 128 of shared array tile (128 bytes)" in str(fault)


def test_dynamic_shared_memory_is_as_large_as_the_launch_says() -> None:
    top = ".extern .shared .align 16 .b8 pool[];\n"
    body = " mov.u32 %r1, pool;\n shl.b32 %r2, %t, 2;\n add.u32 %r1, %r1, %r2;\n"
    text = kernel(body + " st.shared.b32 [%r1], %t;\n", top=top)
    run(text, launch(words(), words(), shared=128))
    assert caught(text, words(), words(), shared=124).kind == "bounds"


def test_only_the_declared_alignment_of_shared_memory_holds() -> None:
    body = " .shared .align {} .b8 odd[64];\n setp.eq.u32 %p0, %t, 0;\n"
    body += " @%p0 st.shared.v4.b32 [odd], {{%t, %t, %t, %t}};\n"
    assert caught(kernel(body.format(4)), words(), words()).kind == "alignment"
    run(kernel(body.format(16)), launch(words(), words()))


def test_two_threads_at_different_barriers_diverge() -> None:
    body = " setp.lt.u32 %p0, %t, 16;\n @%p0 bra LOW;\n bar.sync 0;\n bra END;\nLOW:\n"
    text = kernel(body + " bar.sync 0; // low\nEND:\n")
    fault = caught(text, words(), words())
    assert (fault.kind, fault.line) == ("barrier", line_of(text, "// low"))
    assert "another instruction" in str(fault)


def test_thread_that_exits_before_a_barrier_is_caught() -> None:
    body = " setp.eq.u32 %p0, %t, 7;\n @%p0 ret;\n bar.sync 0;\n"
    fault = caught(kernel(body), words(), words())
    assert fault.kind == "barrier"
    assert "thread (7, 0, 0) has exited" in str(fault)


def test_guarded_barrier_that_some_threads_skip_is_caught() -> None:
    body = " setp.lt.u32 %p0, %t, 16;\n @%p0 bar.sync 0;\n"
    assert caught(kernel(body), words(), words()).kind == "barrier"


# warps

SUM = """
    mov.b32 %r0, %t;
    shfl.sync.bfly.b32 %r1, %r0, 16, 31, MASK;
    add.u32 %r0, %r0, %r1;
    shfl.sync.bfly.b32 %r1, %r0, 8, 31, MASK;
    add.u32 %r0, %r0, %r1;
    shfl.sync.bfly.b32 %r1, %r0, 4, 31, MASK;
    add.u32 %r0, %r0, %r1;
    shfl.sync.bfly.b32 %r1, %r0, 2, 31, MASK;
    add.u32 %r0, %r0, %r1;
    shfl.sync.bfly.b32 %r1, %r0, 1, 31, MASK;
    add.u32 %r0, %r0, %r1;
"""


@pytest.mark.parametrize("settings", ORDERS, ids=IDS)
def test_butterfly_sums_a_warp(settings: Settings) -> None:
    y = np.zeros(64, np.uint32)
    text = kernel(SUM.replace("MASK", "0xffffffff") + STORE, threads=64)
    run(text, launch(words(64), y, threads=64), settings)
    assert y.tolist() == [sum(range(32))] * 32 + [sum(range(32, 64))] * 32


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("up.b32 %r0|%p0, %t, 3, 0, -1", lambda k: (k - 3, 1) if k >= 3 else (k, 0)),
        ("down.b32 %r0|%p0, %t, 3, 31, -1", lambda k: (k + 3, 1) if k < 29 else (k, 0)),
        ("bfly.b32 %r0|%p0, %t, 5, 31, -1", lambda k: (k ^ 5, 1)),
        ("idx.b32 %r0|%p0, %t, 9, 31, -1", lambda k: (9, 1)),
        # segments of 8 lanes
        ("idx.b32 %r0|%p0, %t, 2, 0x181f, -1", lambda k: (k // 8 * 8 + 2, 1)),
        ("down.b32 %r0|%p0, %t, 1, 0x181f, -1", lambda k: (k + (k % 8 < 7), int(k % 8 < 7))),
        ("up.b32 %r0|%p0, %t, 1, 0x1800, -1", lambda k: (k - (k % 8 > 0), int(k % 8 > 0))),
    ],
)
def test_shuffle_modes(mode: str, wanted) -> None:
    body = f" shfl.sync.{mode};\n selp.b32 %r1, 100, 0, %p0;\n add.u32 %r0, %r0, %r1;\n"
    y = np.zeros(32, np.uint32)
    run(kernel(body + STORE), launch(words(), y))
    assert y.tolist() == [source + 100 * flag for source, flag in map(wanted, range(32))]


def test_votes() -> None:
    body = " setp.lt.u32 %p0, %t, 3;\n vote.sync.ballot.b32 %r0, %p0, -1;\n"
    body += " vote.sync.any.pred %p1, %p0, -1;\n vote.sync.all.pred %p2, %p0, -1;\n"
    body += " vote.sync.all.pred %p3, !%p0, -1;\n"
    for k, add in ((1, 8), (2, 16), (3, 32)):
        body += f" selp.b32 %r1, {add}, 0, %p{k};\n add.u32 %r0, %r0, %r1;\n"
    y = np.zeros(32, np.uint32)
    run(kernel(body + STORE), launch(words(), y))
    assert set(y.tolist()) == {7 + 8}


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        ("0x7fffffff", "thread (15, 0, 0): membermask: the value is lane 31's"),
        ("0xfffefffe", "thread (0, 0, 0): membermask: the thread's lane is not in the membermask"),
        ("0x0000ffff", "value is lane 16's"),
    ],
)
def test_wrong_membermask_is_caught(mask: str, what: str) -> None:
    fault = caught(kernel(SUM.replace("MASK", mask) + STORE), words(), words())
    assert fault.kind == "membermask"
    assert what in str(fault)


def test_membermask_of_lanes_that_do_not_exist_is_caught() -> None:
    text = kernel(SUM.replace("MASK", "-1") + STORE, threads=16)
    assert "lane 16, which the block does not have" in str(
        caught(text, words(), words(), threads=16)
    )


def test_membermask_of_an_exited_lane_is_caught() -> None:
    text = kernel(" setp.eq.u32 %p0, %t, 7;\n @%p0 ret;\n" + SUM.replace("MASK", "-1"))
    fault = caught(text, words(), words())
    assert (fault.kind, "lane 7, which has exited" in str(fault)) == ("membermask", True)


def test_collective_in_one_arm_of_a_branch_with_the_full_mask_is_caught() -> None:
    body = " setp.lt.u32 %p0, %t, 16;\n @!%p0 bra END;\n"
    text = kernel(body + " shfl.sync.idx.b32 %r0, %t, 0, 31, {};\nEND:\n bar.sync 0;\n")
    fault = caught(text.replace("{}", "-1"), words(), words())
    assert (fault.kind, "never comes here" in str(fault)) == ("membermask", True)
    run(text.replace("{}", "0xffff"), launch(words(), words()))


def test_lanes_with_different_masks_are_caught() -> None:
    body = " setp.lt.u32 %p0, %t, 1;\n selp.b32 %r1, 1, -1, %p0;\n"
    text = kernel(body + " shfl.sync.idx.b32 %r0, %t, 0, 31, %r1;\n bar.sync 0;\n")
    assert caught(text, words(), words()).kind == "membermask"
