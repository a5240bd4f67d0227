"""One piece of work a frame, the next frame's upload and the last one's download under it.

            upload stream    | up 1 | up 2 | up 3 |
            compute stream          | work 1 | work 2 | work 3 |
            download stream                  | down 1 | down 2 |

The work depends on its own last result, so only copies overlap it. It is captured as a graph, one
for even frames and one for odd: slots, places and states alternate, and a graph's addresses are
fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lsd.kernels.array import DeviceArray, Pool
from lsd.kernels.driver import Device, zero
from lsd.kernels.graph import Graph
from lsd.kernels.lanes import Lane
from lsd.kernels.staging import Download, Fields, Ticket, Upload
from lsd.kernels.streams import Stream

PHASES = 2
Form = tuple[tuple[int, ...], Any]  # shape, dtype


class Buffers(NamedTuple):
    """What the work of one frame reads and writes, all of it on the card.

    Attributes:
        inputs: the frame's fields, by name.
        previous: the state that the last frame's work left; zeros at first.
        state: to be written: what the next frame sees as `previous`.
        result: to be written: what goes to the host.
    """

    inputs: Mapping[str, DeviceArray]
    previous: DeviceArray
    state: DeviceArray
    result: DeviceArray


class Overlap:
    """Runs `work` for one frame after the other; everything is allocated at the start.

    One thread at a time submits; tickets may be taken by others.

    Args:
        device: the card, current on this thread.
        work: calls ops on `Buffers`, the same whatever lies in them; see `Graph`.
        inputs: name -> form of the fields that a frame brings.
        state: form of what work hands on to the next frame's.
        result: form of what goes back to the host.
        most: results that may wait for the host.
    """

    def __init__(
        self,
        device: Device,
        work: Callable[[Buffers], None],
        *,
        inputs: Fields,
        state: Form,
        result: Form,
        most: int = 4,
    ) -> None:
        self._device = device
        self._pool = Pool("pictures on their way")
        self._scratch = Pool("the frame's intermediate results")
        self.upload = Upload(device, inputs, PHASES, self._pool)
        self.download = Download(device, *result, PHASES, most, self._pool)
        self.compute = Stream(device, "compute")
        self._states = [self._pool.fresh(*state) for _ in range(PHASES)]
        lane = Lane(device, self.compute, self._scratch)
        self._graphs = [
            Graph(lane, partial(work, self._buffers(phase)), f"of frames {phase} modulo {PHASES}")
            for phase in range(PHASES)
        ]
        self._frames = 0
        self.forget()
        self.compute.synchronize()  # what is wrong with the work shows here and not in a frame

    def submit(self, values: Mapping[str, NDArray[Any]]) -> Ticket:
        """Queue a frame: upload, work, download. Waits only when the card is two frames behind.

        Args:
            values: all the fields, copied before this returns.

        Raises:
            KernelError: a field has another form; too many results wait; the driver refuses.
        """
        self._device.activate()
        phase = self._frames % PHASES
        self._frames += 1
        slot, place = self.upload.send(phase, values), self.download.places[phase]
        slot.sent.wait(self.compute)
        place.fetched.wait(self.compute)
        self._graphs[phase].launch()
        slot.read.record(self.compute)
        place.made.record(self.compute)
        return self.download.fetch(phase)

    def forget(self) -> None:
        """Let the next frame see zeros as the previous state."""
        for state in self._states:
            zero(state.pointer, state.nbytes, self.compute.handle)

    def close(self) -> None:
        """Wait for what is on its way, and give everything back; from any thread."""
        self._device.activate()
        self.compute.synchronize()
        self.upload.close()
        self.download.close()
        for graph in self._graphs:
            graph.close()
        self.compute.close()
        self._states.clear()
        self._pool.close()
        self._scratch.close()

    def _buffers(self, phase: int) -> Buffers:
        return Buffers(
            self.upload.slots[phase].card,
            self._states[1 - phase],
            self._states[phase],
            self.download.places[phase].array,
        )
