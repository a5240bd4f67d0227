"""What the tests of the card share: copies to it and back."""

from __future__ import annotations

import numpy as np

from lsd.kernels import driver
from lsd.kernels.array import Pool
from lsd.kernels.driver import device
from lsd.kernels.lanes import Lane
from lsd.kernels.streams import Stream


def constant(values):
    """Return an array on the card that stays as it is."""
    stream, staging = Stream(device(0), "constants"), driver.pinned(values.shape, values.dtype)
    staging[...] = values
    array = Pool("constants").fresh(values.shape, values.dtype)
    array.upload(staging, stream)
    stream.synchronize()
    return array


def send(lane: Lane, values):
    """Return a copy of an array or tensor on the card."""
    host = np.ascontiguousarray(values)
    staging = driver.pinned(host.shape, host.dtype)
    staging[...] = host
    array = lane.memory.take(host.shape, host.dtype)
    driver.copy_in(array.pointer, staging, lane.handle)
    driver.check(driver.cuda.cuStreamSynchronize(lane.handle), "sending")
    return array


def fetch(lane: Lane, array):
    staging = driver.pinned(array.shape, array.dtype)
    driver.copy_out(staging, array.pointer, lane.handle)
    driver.check(driver.cuda.cuStreamSynchronize(lane.handle), "fetching")
    return staging.copy()


def picture(seed: int, shape=(1, 3, 7, 5)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
