"""One worker under supervision: its life, its process, what is known of it."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable
from typing import Any

from lsd.pipeline.control_messages import Message, Scalar
from lsd.pipeline.post_mortem import PostMortem
from lsd.pipeline.process import DUMP_SIGNAL
from lsd.pipeline.worker_account import Account
from lsd.pipeline.worker_life import USAGE, Action, Exit, State, WorkerLife
from lsd.pipeline.worker_process import WorkerProcess, WorkerSpec
from lsd.pipeline.workers import SupervisionConfig

_SIGNALS = {
    Action.DUMP: DUMP_SIGNAL, Action.TERM: signal.SIGTERM, Action.KILL: signal.SIGKILL
}  # fmt: skip
_NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_TELLING = (State.READY, State.RUNNING, State.DEGRADED, State.ENDING)


class Supervised:
    """Does to a worker's process what its life says, and tells its life what the process does.

    Args:
        spec: how it is started.
        policy: what is done about failures.
        emit: prints a line for people.
        on_spawn: is told of every new process, to watch it.
        on_peer: is told what the other workers of its instance must know: "peer_lost", "peer_back",
            "peer_ended".
    """

    def __init__(
        self,
        spec: WorkerSpec,
        policy: SupervisionConfig,
        emit: Callable[[str], None],
        on_spawn: Callable[[Supervised, WorkerProcess], None],
        on_peer: Callable[[str, Supervised], None],
    ) -> None:
        self.spec = spec
        self.life = WorkerLife(policy, time.monotonic_ns())
        self.process: WorkerProcess | None = None
        self.report: dict[str, Any] = {}  # of its end
        self.account = Account()
        self.told_ns = 0  # when it last told how it goes
        self.is_away = False
        self.post_mortem: PostMortem | None = None
        self.malformed = 0
        self._policy = policy
        self._emit = emit
        self._on_spawn = on_spawn
        self._on_peer = on_peer
        self._spawned_ns = self._beat_ns = 0
        self._has_told_end = False
        self._status: dict[str, Scalar] = {}

    def tick(self) -> None:
        """Do what is due."""
        self._do(self.life.tick(time.monotonic_ns()))

    def excuse(self, lost_ns: int) -> None:
        """Hold nothing against it that was not heard while this process stood still."""
        self.life.excuse(time.monotonic_ns(), lost_ns)

    def stop(self) -> None:
        """End it in order."""
        self._do(self.life.stop(time.monotonic_ns()))
        self._tell_end()

    def kill(self) -> None:
        """Give it up."""
        self._do(self.life.kill(time.monotonic_ns()))
        self._tell_end()

    def hear(self) -> bool:
        """Take what the worker has said; False when it hung up."""
        assert self.process is not None
        for message in self.process.messages():
            if message is None:
                return False
            self._take(message)
        return True

    def tell(self, kind: str, worker: str) -> None:
        """Tell it what became of another worker."""
        if self.process is not None:
            self.process.send(kind, worker=worker)

    @property
    def trouble(self) -> str:
        """What its stages are without, as it told last; "" where they have all they need."""
        return str(self._status.get("trouble", "")) if self.process is not None else ""

    @property
    def is_there(self) -> bool:
        """Whether it could tell how its run goes."""
        return self.process is not None and self.life.state in _TELLING

    def ask(self) -> None:
        """Have it tell how its run goes, if it can; then it is `latest`."""
        if self.process is not None and self.is_there:
            self.process.send("tell")

    def exited(self) -> None:
        """The process has ended: hear its last words, collect it, and decide what comes next."""
        process = self.process
        assert process is not None
        self.hear()
        how = process.collect()
        self.malformed += process.malformed
        for output in process.outputs:
            self.forward(output.drain())
        process.close()
        self.process = None
        was_stopping = self.life.state is State.ENDING
        actions = self.life.exited(time.monotonic_ns(), how)
        if not self.report:
            self.account = self.account.closed(self._status)
        if self.life.cause is not None:
            self._examine(process)
        elif not was_stopping or self.life.state is not State.ENDED:
            self._emit(f"{self.spec.name}: {self.life.state}")
        self._do(actions)
        self._tell_end()

    def forward(self, lines: list[str]) -> None:
        """Print lines of the worker's."""
        for line in lines:
            self._emit(f"[{self.spec.name}] {line}")

    def to_json(self) -> dict[str, Any]:
        """Return all that is known of it."""
        status = self._status if self.process is not None else {}
        return {
            "state": str(self.life.state),
            "pid": self.process.pid if self.process is not None else None,
            "restarts": self.life.restarts,
            "since_s": round((time.monotonic_ns() - self.life.since_ns) / 1e9, 3),
            "stages": list(self.spec.stages),
            **({"instance": self.spec.instance} if self.spec.instance else {}),
            "cores": None if self.spec.cores is None else list(self.spec.cores),
            "status": dict(status),
            "malformed": self.malformed + (self.process.malformed if self.process else 0),
            "cause": self.life.cause,
            "post_mortem": None if self.post_mortem is None else self.post_mortem.to_json(),
            "report": self.report,
            "dropped_before": dict(self.account.dropped),
            "failed_before": self.account.failed,
        }

    def _tell_end(self) -> None:
        """Tell the others, once, that no process of this worker will come again."""
        if self.life.is_over and not self._has_told_end:
            self._has_told_end = True
            self._on_peer("peer_ended", self)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if action is Action.SPAWN:
                self._spawn()
            elif action is Action.LOST:
                self.is_away = True
                self._on_peer("peer_lost", self)
            elif action is Action.BACK:
                self.is_away = False
                self._on_peer("peer_back", self)
            elif self.process is None:
                continue
            elif action is Action.STOP:
                self.process.send("stop")
            else:
                self.process.signal(_SIGNALS[action])

    def _spawn(self) -> None:
        now_ns = time.monotonic_ns()
        if self.report:  # it ended in order, and is to run again
            self.account, self.report = self.account.closed(self._status), {}
        self._spawned_ns, self._beat_ns, self._status = now_ns, 0, {}
        try:
            self.process = WorkerProcess(self.spec)
        except OSError as error:
            self.life.failed(f"cannot be started: {error}")
            # A machine that has no room may have it later; no later try finds another program.
            self.life.exited(now_ns, Exit(1 if error.errno in _NO_ROOM else USAGE))
            self._emit(f"{self.spec.name}: {self.life.cause}; {self._outcome(now_ns)}")
            self._tell_end()
            return
        self._on_spawn(self, self.process)

    def _take(self, message: Message) -> None:
        assert self.process is not None
        now_ns = time.monotonic_ns()
        if message.kind == "ready":
            actions = self.life.ready(now_ns)
            if self.life.state is State.READY:
                took_s = (now_ns - self._spawned_ns) / 1e9
                self._emit(f"{self.spec.name}: ready after {took_s:.1f} s, pid {self.process.pid}")
            self._do(actions)
        elif message.kind == "heartbeat":
            was_degraded = self.life.state is State.DEGRADED
            self._beat_ns, self._status = now_ns, message.body
            self.life.heartbeat(
                now_ns, message.body["frames"], is_waiting=message.body.get("waiting", False)
            )
            if was_degraded and self.life.state is State.RUNNING:
                self._emit(f"{self.spec.name}: running again")
        elif message.kind == "report":
            self.account = self.account._replace(report=message.body.get("report", {}))
            self.told_ns = now_ns
        elif message.kind == "ended":
            self.report = message.body.get("report", {})
            self.account = self.account._replace(report=self.report)
            self.life.ended(now_ns)
        else:
            self.life.failed(message.body["error"])

    def _examine(self, process: WorkerProcess) -> None:
        """Write down why the worker died, and tell it."""
        now_ns = time.monotonic_ns()
        self.post_mortem = PostMortem(
            worker=self.spec.name,
            pid=process.pid,
            cause=self.life.cause or "",
            lived_s=(now_ns - self._spawned_ns) / 1e9,
            at=time.time(),
            beat_age_s=(now_ns - self._beat_ns) / 1e9 if self._beat_ns else None,
            status=self._status,
            stderr=tuple(process.stderr_tail),
            outcome=self._outcome(now_ns),
        )
        self._emit(str(self.post_mortem))

    def _outcome(self, now_ns: int) -> str:
        life = self.life
        if life.state is State.RESTARTING:
            delay_s = max(0, (life.due_ns or now_ns) - now_ns) / 1e9
            return (
                f"restart {life.in_a_row + 1} of at most {self._policy.max_restarts} in a row, "
                f"in {delay_s:.2f} s"
            )
        if life.state is State.ENDED:
            return "ended with the run"
        whole = f"instance {self.spec.instance}" if self.spec.instance else "the run"
        if life.in_a_row:
            return f"given up after {life.in_a_row} restarts in a row; {whole} ends"
        return f"given up; {whole} ends"
