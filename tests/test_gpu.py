"""What only a real card can show; `pytest -m gpu` on a machine that has one."""

import ctypes.util

import pytest

needs_card = pytest.mark.skipif(
    ctypes.util.find_library("cuda") is None, reason="needs an NVIDIA card"
)


@pytest.mark.gpu
@needs_card
def test_every_kernel_on_the_card_is_its_twin():
    from lsd.kernels.driver import device
    from lsd.lab.ptx.on_card import verdicts

    assert {verdict.op: verdict.failed for verdict in verdicts(device(0)) if verdict.failed} == {}
