"""Starts the workers of a pipeline's instances, watches them, starts them again, and ends them.

One loop waits for everything: what a worker says or prints, its end (a pidfd), signals, who asks
for the status, and the next deadline.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lsd.pipeline.inquiry import Inquiry
from lsd.pipeline.instance import Instance
from lsd.pipeline.order_socket import OrderServer
from lsd.pipeline.run_directory import RunDirectory
from lsd.pipeline.status_socket import StatusServer
from lsd.pipeline.supervised import Supervised
from lsd.pipeline.terminal import EXIT_FAILED, EXIT_INTERRUPTED
from lsd.pipeline.worker_life import State
from lsd.pipeline.worker_process import Output, WorkerProcess, WorkerSpec
from lsd.pipeline.workers import SupervisionConfig

_STALL_NS = 500_000_000  # this process stood still: it was stopped, or its machine
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """A run of several workers; `run` must be called in the main thread.

    Args:
        name: what reports call the run.
        specs: the workers, in the order of their stages, instance after instance.
        policy: what is done about failures.
        emit: prints a line for people.
        directory: where others find the run; None: nowhere.
        on_settled: called once: every worker of an instance has become ready, and those of each
            other one too, unless it failed (True); or the run failed before (False).
    """

    def __init__(
        self,
        name: str,
        specs: Sequence[WorkerSpec],
        policy: SupervisionConfig,
        *,
        emit: Callable[[str], None],
        directory: RunDirectory | None = None,
        on_settled: Callable[[bool], None] = lambda is_up: None,
    ) -> None:
        self.name = name
        self._emit = emit
        self._directory = directory
        self._on_settled: Callable[[bool], None] | None = on_settled
        self._selector = selectors.DefaultSelector()
        self._inquiry = Inquiry(self._selector)
        self._started_ns = time.monotonic_ns()
        self._interrupts = 0
        self._is_stopping = self._was_interrupted = False
        self.workers = [
            Supervised(spec, policy, emit, self._watch, self._tell_others) for spec in specs
        ]
        self.instances = {
            name: Instance(
                name, [each for each in self.workers if each.spec.instance == name], self._told
            )
            for name in dict.fromkeys(spec.instance for spec in specs)
        }

    def run(self) -> int:
        """Run until every worker has ended.

        Returns:
            0; 1 when a worker has failed for good, whatever became of other instances; 130 when a
            Ctrl-C ended the run.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._selector.close)
            stack.callback(self._inquiry.close)
            stack.enter_context(self._signals())
            if self._directory is not None:
                server = StatusServer(self._directory.status_socket, self._selector, self.status)
                stack.callback(server.close)
                orders = OrderServer(self._directory.order_socket, self._selector, self._end_one)
                stack.callback(orders.close)
            try:
                while not self._step():
                    pass
            finally:
                self._end_all()
        if any(worker.life.state is State.FAILED for worker in self.workers):
            return EXIT_FAILED
        return EXIT_INTERRUPTED if self._was_interrupted else 0

    def stop(self) -> None:
        """Have every worker finish what it has, and end."""
        self._is_stopping = True
        for instance in self.instances.values():
            instance.stop()

    def ask(self, workers: Sequence[Supervised], patience_s: float) -> None:
        """Have workers tell how they go, and wait for it, in another thread than the loop's."""
        self._inquiry.ask(workers, patience_s)

    def status(self) -> dict[str, Any]:
        """Return how the run is going, as plain JSON."""
        named = {name: each.to_json() for name, each in self.instances.items() if name}
        return {
            "name": self.name,
            "pid": os.getpid(),
            "up_s": round((time.monotonic_ns() - self._started_ns) / 1e9, 3),
            "state": str(self._state()),
            **({"instances": named} if named else {}),
            "workers": {worker.spec.name: worker.to_json() for worker in self.workers},
        }

    def _step(self) -> bool:
        """Wait for the next thing to happen, and deal with it; True when all is over."""
        wait_s = self._wait_s()
        awaited_ns = time.monotonic_ns() + round((wait_s or 0) * 1e9)
        # What has come is heard before anything is done about what has not.
        for key, _ in self._selector.select(wait_s):
            # What came before in this round may have closed what this key is of.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        late_ns = time.monotonic_ns() - awaited_ns
        if wait_s is not None and late_ns > _STALL_NS:
            for worker in self.workers:
                worker.excuse(late_ns)
        for instance in self.instances.values():
            instance.tick()
        self._settle()
        self._inquiry.look()
        return all(instance.is_over for instance in self.instances.values())

    def _settle(self) -> None:
        if self._on_settled is None:
            return
        states = [instance.is_up for instance in self.instances.values()]
        if self._is_stopping or None not in states:
            tell, self._on_settled = self._on_settled, None
            tell(not self._is_stopping and any(states))

    def _wait_s(self) -> float | None:
        due = [worker.life.due_ns for worker in self.workers]
        known = [each for each in due if each is not None]
        return max(0.0, (min(known) - time.monotonic_ns()) / 1e9) if known else None

    def _state(self) -> State:
        states = [instance.state() for instance in self.instances.values()]
        if State.FAILED in states and not all(each.is_over for each in self.instances.values()):
            return State.FAILED if len(states) == 1 else State.DEGRADED  # the others go on
        order = (State.FAILED, State.RESTARTING, State.DEGRADED, State.STARTING, State.ENDING)
        worst = next((state for state in order if state in states), None)
        return worst or (State.RUNNING if State.RUNNING in states else states[-1])

    def _watch(self, worker: Supervised, process: WorkerProcess) -> None:
        """Have the loop notice what a new process does."""
        read = selectors.EVENT_READ
        self._selector.register(process.pidfd, read, lambda: self._exited(worker, process))
        self._selector.register(
            process.control.fileno(), read, lambda: self._hear(worker, process.control.fileno())
        )
        for output in process.outputs:
            self._selector.register(output.pipe, read, self._reader(worker, output))
        self.instances[worker.spec.instance].brief(worker, process)

    def _reader(self, worker: Supervised, output: Output) -> Callable[[], None]:
        def read() -> None:
            lines, is_open = output.read()
            worker.forward(lines)
            if not is_open:
                self._selector.unregister(output.pipe)

        return read

    def _hear(self, worker: Supervised, control: int) -> None:
        if not worker.hear():
            self._selector.unregister(control)  # its end will tell, or its missing heartbeat

    def _exited(self, worker: Supervised, process: WorkerProcess) -> None:
        fds = [process.pidfd, process.control.fileno()]
        for fd in [*fds, *(output.pipe.fileno() for output in process.outputs)]:
            with contextlib.suppress(KeyError):  # hung up before
                self._selector.unregister(fd)
        worker.exited()

    def _tell_others(self, kind: str, worker: Supervised) -> None:
        self.instances[worker.spec.instance].tell_others(kind, worker.spec.name)

    def _told(self, text: str) -> None:
        self._emit(f"{self.name}: {text}")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have the loop wake up for signals, inside the block."""
        woken, wake = socket.socketpair()
        with woken, wake:
            woken.setblocking(False)
            wake.setblocking(False)
            handlers = {
                number: signal.signal(number, lambda *_: None)
                for number in _SIGNALS
                if signal.getsignal(number) is not signal.SIG_IGN  # nohup's SIGHUP
            }
            old_fd = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
            self._selector.register(woken, selectors.EVENT_READ, lambda: self._obey(woken))
            try:
                yield
            finally:
                signal.set_wakeup_fd(old_fd)
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def _obey(self, woken: socket.socket) -> None:
        numbers = [number for number in woken.recv(64) if number in _SIGNALS]
        for number in numbers:
            self._interrupts += 1
            self._was_interrupted |= number == signal.SIGINT
            if self._interrupts == 1:
                self._emit(f"{self.name}: stopping; once more to give up what is on its way")
                self.stop()
            else:
                self._is_stopping = True
                for instance in self.instances.values():
                    instance.kill()

    def _end_one(self, name: str) -> None:
        if name in self.instances:
            self._emit(f"{self.name}: stopping instance {name}")
            self.instances[name].stop()

    def _end_all(self) -> None:
        """Leave no process behind, whatever has happened to the loop."""
        for worker in self.workers:
            if worker.process is not None:
                worker.kill()
                worker.exited()  # waits for the kernel, not for the worker
