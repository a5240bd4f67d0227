"""Launches on the fake libcuda: types, packing, errors, graphs, every kernel."""

from __future__ import annotations

import threading
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from card_tools import fetch, picture, send

from lsd.kernels import device_ops, driver, ops
from lsd.kernels.array import Pool
from lsd.kernels.driver import device
from lsd.kernels.graph import Graph
from lsd.kernels.lanes import Lane, on
from lsd.kernels.launch import launch, launch_all
from lsd.kernels.plans import denoise_step as denoise_plan
from lsd.kernels.plans.launch import Launch
from lsd.kernels.records import records
from lsd.kernels.streams import Stream
from lsd.lab.ptx.card import Bench
from lsd.lab.ptx.on_card import largest_error
from lsd.pipeline.errors import KernelError

ILLEGAL_ADDRESS, TOO_MANY_RESOURCES = 700, 701


def euler(lane: Lane, out=None) -> Launch:
    """Return a launch that is right."""
    x, denoised = send(lane, picture(1)), send(lane, picture(2))
    record = send(lane, denoise_plan.coefficients(0.25, 0.75).view(np.uint8))
    (planned,) = denoise_plan.plan(x, denoised, record, out or lane.memory.take(x.shape, x.dtype))
    return planned


# Launching


def test_a_kernel_gets_its_arguments_and_runs_when_the_stream_does(card, lane):
    planned = euler(lane)
    out = planned.args[3]
    launch(planned, lane)
    assert np.isnan(np.frombuffer(card.peek(out.pointer, out.nbytes), np.float32)).all()
    expected = 0.25 * picture(1) + 0.75 * picture(2)
    np.testing.assert_allclose(fetch(lane, out), expected, atol=1e-6)


def test_a_second_launch_brings_its_own_values(card, lane):
    first, second = euler(lane), euler(lane)
    other = send(lane, picture(9))
    launch(first, lane)
    launch(second._replace(args=(other, *second.args[1:])), lane)
    assert len(lane.packs) == 1
    np.testing.assert_allclose(
        fetch(lane, first.args[3]), 0.25 * picture(1) + 0.75 * picture(2), atol=1e-6
    )
    np.testing.assert_allclose(
        fetch(lane, second.args[3]), 0.25 * picture(9) + 0.75 * picture(2), atol=1e-6
    )


def test_a_module_is_loaded_once_for_all_lanes(card, lane):
    other = Lane(lane.device, Stream(lane.device, "other"), lane.memory)
    planned = euler(lane)
    launch(planned, lane)
    launch(planned, other)
    assert card.calls("cuModuleLoadDataEx") == 1


def test_anything_with_the_array_interface_is_a_buffer(card, lane):
    planned = euler(lane)
    theirs = tuple(
        SimpleNamespace(__cuda_array_interface__=arg.__cuda_array_interface__)
        if hasattr(arg, "__cuda_array_interface__")
        else arg
        for arg in planned.args
    )
    launch(planned._replace(args=theirs), lane)
    expected = 0.25 * picture(1) + 0.75 * picture(2)
    np.testing.assert_allclose(fetch(lane, planned.args[3]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("index", "value", "text"),
    [
        (4, 105, "got int for 'count', expected int32"),
        (4, np.uint32(105), "got uint32 for 'count', expected int32"),
        (0, np.zeros(3), "got ndarray for 'x', expected a buffer on the card"),
        (0, torch.zeros(3), "got Tensor for 'x', expected a buffer on the card"),
    ],
)
def test_an_argument_of_another_type_is_refused(lane, index, value, text):
    planned = euler(lane)
    args = [*planned.args]
    args[index] = value
    with pytest.raises(KernelError, match=f"kernel 'denoise_step_f32': {text}"):
        launch(planned._replace(args=tuple(args)), lane)


def test_too_few_arguments_are_refused_by_name(lane):
    planned = euler(lane)
    with pytest.raises(KernelError, match="got 4 arguments, expected 5: x, denoised, coeff"):
        launch(planned._replace(args=planned.args[:4]), lane)


def test_another_block_than_the_kernel_has_is_refused(lane):
    with pytest.raises(KernelError, match=r"got a block of \(64, 1, 1\), expected \(128, 1, 1\)"):
        launch(euler(lane)._replace(block=(64, 1, 1)), lane)


def test_an_entry_that_is_not_there_is_refused(lane):
    with pytest.raises(KernelError, match="no kernel 'denoise_step_f64'; the kernels are "):
        launch(euler(lane)._replace(entry="denoise_step_f64"), lane)


def test_a_launch_that_the_driver_refuses_says_which(card, lane):
    planned = euler(lane)
    card.fail("cuLaunchKernel", TOO_MANY_RESOURCES)
    with pytest.raises(KernelError) as caught:
        launch(planned, lane)
    assert str(caught.value) == (
        "kernel 'denoise_step_f32', grid (1, 1, 1), block (128, 1, 1): "
        "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES 701 (too many resources requested for launch); "
        "the kernel and its block do not fit this card"
    )


def test_a_kernel_out_of_bounds_loses_the_context_for_good(card, lane):
    planned = euler(lane)
    launch(planned._replace(args=(*planned.args[:4], np.int32(400))), lane)
    with pytest.raises(
        KernelError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS 700 .*; the context is lost"
    ):
        fetch(lane, planned.args[3])
    with pytest.raises(KernelError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        driver.allocate(16, "afterwards")
    assert [violation.kind for violation in card.violations] == ["bounds"]


def test_a_misaligned_picture_is_refused_before_the_launch(lane):
    whole = lane.memory.take((4, 1, 3, 7, 5), np.float32)
    planned = euler(lane)
    with pytest.raises(KernelError, match=r"x lies at 0x\w+, expected a multiple of 16 bytes"):
        denoise_plan.plan(whole[1], whole[0], planned.args[2], whole[0])


def test_a_misaligned_access_is_found_by_the_card_too(card, lane):
    planned = euler(lane)
    whole = lane.memory.take((2, 1, 3, 7, 5), np.float32)
    launch(planned._replace(args=(whole[1], *planned.args[1:])), lane)
    with pytest.raises(KernelError, match="CUDA_ERROR_MISALIGNED_ADDRESS"):
        fetch(lane, planned.args[3])


def test_two_threads_use_lanes_of_their_own(card, lane):
    results = {}

    def work(seed):
        lane.device.activate()
        own = Lane(lane.device, Stream(lane.device, f"thread {seed}"), Pool("thread"))
        x, denoised = send(own, picture(seed)), send(own, picture(seed + 1))
        with on(own):
            results[seed] = fetch(own, ops.denoise_step(x, denoised, 1.0, 0.5))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (10, 20):
        np.testing.assert_allclose(
            results[seed], (picture(seed) + picture(seed + 1)) / 2, atol=1e-6
        )


# Graphs


def test_a_graph_replays_with_what_lies_in_memory_then(card, lane):
    x, denoised = send(lane, picture(1)), send(lane, picture(2))
    record = send(lane, denoise_plan.coefficients(0.25, 0.75).view(np.uint8))
    out = lane.memory.take(x.shape, x.dtype)

    def work():
        # a result that is dropped: the capture must find its memory again
        device_ops.denoise_with(x, ops.denoise_step(x, denoised, 1.0, 0.0), record, out)
        ops.denoise_step(x, denoised, 4.0, 1.0)

    graph = Graph(lane, work, "step")
    launches = card.calls("cuLaunchKernel")
    staging = driver.pinned(x.shape, x.dtype)
    staging[...] = picture(7)
    driver.copy_in(x.pointer, staging, lane.handle)
    graph.launch()
    expected = 0.25 * picture(7) + 0.75 * picture(2)
    np.testing.assert_allclose(fetch(lane, out), expected, atol=1e-6)
    assert card.calls("cuLaunchKernel") == launches
    graph.close()


def test_a_graph_that_allocates_while_captured_is_refused_and_the_stream_lives(card, lane):
    sizes = iter((3, 5))
    with pytest.raises(KernelError, match=r"900 .*; nothing may wait or allocate while a graph is"):
        Graph(lane, lambda: lane.memory.take((next(sizes),), np.float32), "greedy")
    fetch(lane, lane.memory.take((3,), np.float32))


# Every kernel


def test_every_record_is_of_the_kernel_that_is_there(card, lane):
    for record in records().values():
        for name, entry in record.entries.items():
            assert card.parameters(record.text, name) == [
                "u64" if kind == "ptr" else kind for _, kind in entry.params
            ], name


@pytest.mark.parametrize("op", sorted(records()))
def test_small_cases_of_every_kernel_pass_through_the_driver(card, op):
    # the executor has them all; here one of each sequence of entries goes the host's whole way
    bench = Bench(device(0))
    seen: set[tuple[str, ...]] = set()
    for case in import_module(f"lsd.lab.ptx.cases.{op}").cases():
        buffers, launches = case.build()
        entries = tuple(each.entry for each in launches)
        if entries in seen or sum(buffer.nbytes for buffer in buffers.values()) > 1 << 18:
            continue
        seen.add(entries)
        error, tolerance = largest_error(case, bench.run(case))
        assert error <= tolerance, case.name
    bench.close()
    assert card.used_bytes == 0


def test_launch_all_keeps_the_order(card, lane):
    first = euler(lane)
    (second,) = denoise_plan.plan(first.args[3], *first.args[1:3], first.args[3])
    launch_all([first, second], lane)
    once = 0.25 * picture(1) + 0.75 * picture(2)
    np.testing.assert_allclose(
        fetch(lane, first.args[3]), 0.25 * once + 0.75 * picture(2), atol=1e-6
    )
