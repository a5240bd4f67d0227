"""Settings for all tests."""

import ctypes.util
import sys

import pytest
from hypothesis import settings

# Property tests share two cores with whatever else runs: slow is not wrong.
settings.register_profile("lsd", deadline=None, max_examples=50)
settings.load_profile("lsd")


@pytest.fixture(scope="session")
def fake_cuda():
    """The fake driver, loaded once; a machine with a driver of its own must not mix the two."""
    if sys.platform != "linux":
        pytest.skip("the fake driver is built for Linux")
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has a driver: what runs on the card itself is marked gpu")
    from fake_cuda import FakeCuda

    return FakeCuda()


@pytest.fixture(scope="session")
def nvidia_tools():
    """Assembler, compiler and disassembler: livesd[dev] brings them on Linux, so that there a
    missing one fails the test."""
    if sys.platform != "linux":
        pytest.skip("NVIDIA's tools are installed on Linux only")


@pytest.fixture
def card(fake_cuda):
    """A fresh fake card whose streams run as late as they may; taken out after the test."""
    from lsd.kernels import driver

    fake_cuda.start()
    yield fake_cuda
    driver.device.cache_clear()
    fake_cuda.stop()


@pytest.fixture
def lane(card):
    """A lane with memory on the fake card."""
    from lsd.kernels.array import Pool
    from lsd.kernels.driver import device
    from lsd.kernels.lanes import Lane
    from lsd.kernels.streams import Stream

    card_0 = device(0)
    return Lane(card_0, Stream(card_0, "compute"), Pool("test"))
