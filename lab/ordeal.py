"""The real workers, their source and their outputs, tormented at random for a while.

Nothing here is scripted but the torment: `livesd up` starts the three workers of `multi_process`,
at a small size; a camera on the network feeds them, one viewer watches `mjpeg://` and a film is
recorded beside it. First the supervisor is killed, and `livesd up` has to find its way; then come
acts in an order that the seed draws, each at a moment that it draws:

    kill, hang WORKER     kill -9, SIGSTOP
    output: stuck         viewers stop reading
    output: gone          the film's folder is removed
    output: full          no file can grow
    input: gone           the camera vanishes, and comes back after a second
    input: dead and gone  the camera vanishes, and the worker that reads it is killed meanwhile
    input: silent         it keeps its connection and sends nothing, longer than a worker may hang
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av

from lsd.lab.chaos import BrokenPromise, Chaos, awaited
from lsd.lab.fake_camera import FakeCamera
from lsd.lab.leftovers import Memory, Process, holders, memory_files, process
from lsd.lab.trial import LIVESD
from lsd.lab.viewer import Viewer, free_port
from lsd.pipeline.errors import LsdError
from lsd.pipeline.frame import Size
from lsd.pipeline.run_directory import find_runs
from lsd.pipeline.status_socket import ask_status

RATE_HZ = 25.0
WORKERS = ("camera", "model", "screen")
LATE_S = 2 / RATE_HZ  # what operations.md promises: something goes out within two periods
LATE_SHARE, LATE_LEAST = 0.5, 2  # of the acts may exceed that beside other work, or so many,
LONGEST_S = 0.5  # and none may exceed this
HUNG_S = 2.0  # without a sign of life a worker counts as hung
_NAME = "ordeal"
_SIZE = Size(128, 128)
_AWAY_S = 1.0
_STUCK_VIEWERS = 4
_HEADER_BYTES = 1024  # a film of less holds no picture
_ENOUGH = 5  # fresh pictures that tell that frames come through again


class Deed(NamedTuple):
    """One act.

    Attributes:
        what: such as "kill model".
        took_s: until everything was as before.
        gap_s: for how long no picture came to the viewer; None: the act was on the output.
    """

    what: str
    took_s: float
    gap_s: float | None


class Ordeal:
    """Use as a context: what it starts is gone when the block ends, however it ends.

    Args:
        folder: films and logs go there.
        seed: draws the acts.
        told: is told what happens.
        patience_s: how long anything may take before it counts as never.
    """

    def __init__(
        self, folder: Path, seed: int, told: Callable[[str], None], patience_s: float = 90.0
    ) -> None:
        self._folder = folder
        self._draw = random.Random(seed)
        self._told = told
        self._patience_s = patience_s
        self._films = folder / "films"
        self._port = free_port()
        self._seen: set[Process] = set()
        self._memory: set[Memory] = set()
        self._log = folder / "livesd" / f"{_NAME}.log"
        self._acts: dict[str, Callable[[], Deed]] = {
            "output: stuck": self._viewers_stop_reading,
            "output: gone": self._folder_is_removed,
            "output: full": self._disk_is_full,
            "input: gone": self._camera_vanishes,
            "input: dead and gone": self._reader_dies_without_camera,
            "input: silent": self._camera_falls_silent,
        }

    def __enter__(self) -> Ordeal:
        with contextlib.ExitStack() as stack:
            # A run folder of our own: other runs of this user are none of our business.
            runtime = stack.enter_context(tempfile.TemporaryDirectory(prefix="lsd-ordeal-"))
            self._runs = Path(runtime) / "livesd"
            environment = {"XDG_RUNTIME_DIR": runtime, "XDG_STATE_HOME": str(self._folder)}
            stack.enter_context(_environment(environment))
            stack.callback(self._kill_all)
            shutil.rmtree(self._films, ignore_errors=True)  # of an ordeal before
            self._log.unlink(missing_ok=True)
            self._camera = FakeCamera(_SIZE, RATE_HZ)
            stack.callback(self._camera.close)
            self._up()
            self._viewer = Viewer(self._port)
            stack.callback(self._viewer.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kill_supervisor(self) -> Deed:
        """Kill it; its workers must go with it, and `livesd up` must find a clean place."""
        self._look()
        old = set(self._seen)
        start_s = time.monotonic()
        os.kill(self._run.pid, signal.SIGKILL)
        self._await(lambda: not _alive(old), "the workers gone with their supervisor")
        self._check_memory()
        if not (self._runs / _NAME).exists():
            raise BrokenPromise("the dead run's folder was gone before anybody could look")
        self._up()
        self._await_pictures()
        return Deed("kill supervisor", time.monotonic() - start_s, None)

    def deeds(self, until_s: float, longest_s: float) -> Iterator[Deed]:
        """Do act after act, as long as one more will probably end before `until_s`; one at least.

        Args:
            until_s: a time of `time.monotonic`.
            longest_s: what one may take; the longest so far takes its place.

        Raises:
            BrokenPromise: what did not hold.
        """
        kinds = [*self._acts, *(f"{how} {name}" for how in ("kill", "hang") for name in WORKERS)]
        count = 0
        while True:
            for kind in self._draw.sample(kinds, len(kinds)):
                if count and time.monotonic() + longest_s > until_s:
                    return
                count += 1
                self._await(self._all_run, "all workers running")
                time.sleep(self._draw.uniform(0, 0.3))
                deed = self._acts[kind]() if kind in self._acts else self._strike(*kind.split())
                longest_s = max(longest_s, deed.took_s)
                self._look()
                yield deed

    def end(self) -> dict[str, Any]:
        """End the run; nothing may be left, and every frame must be accounted for.

        Returns:
            Its frames.
        """
        self._look()
        _livesd("down", _NAME)
        if _alive(self._seen):
            raise BrokenPromise(f"left behind: processes {sorted(_alive(self._seen))}")
        self._check_memory()
        left = list(self._runs.iterdir())
        if left:
            raise BrokenPromise(f"left behind: {', '.join(map(str, left))}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                raise BrokenPromise(f"left behind: somebody listens on port {self._port}")
        self._check_films()
        return self._accounts()

    def _strike(self, how: Any, worker: str) -> Deed:
        start_s = time.monotonic()
        act = Chaos(self._run, 0, self._patience_s).act(worker, how)
        end_s = time.monotonic()
        self._await_pictures()
        gap_s = None if worker == "screen" else self._viewer.longest_gap_s(start_s, end_s)
        return Deed(f"{how} {worker}", act.recovered_s, gap_s)

    def _viewers_stop_reading(self) -> Deed:
        screen = self._workers()["screen"]["pid"]
        with self._unhurt("output: stuck") as deed:
            before = _threads(screen)
            with contextlib.ExitStack() as stack:
                for _ in range(_STUCK_VIEWERS):
                    client = stack.enter_context(socket.socket())
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    client.connect(("127.0.0.1", self._port))
                    client.sendall(b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
                self._await(lambda: _threads(screen) >= before + _STUCK_VIEWERS, "their threads")
                time.sleep(2 * _AWAY_S)
            self._await(lambda: _threads(screen) <= before, "their threads' end")
        return deed[0]

    def _folder_is_removed(self) -> Deed:
        with self._unhurt("output: gone") as deed:
            self._await(lambda: any(self._films.glob("*")), "a film")
            came_back = self._said("goes on, in ")
            shutil.rmtree(self._films)
            self._await(lambda: self._said("goes on, in ") > came_back, "the film going on")
            if not any(self._films.iterdir()):
                raise BrokenPromise(f"{self._films} was not made again")
        return deed[0]

    def _disk_is_full(self) -> Deed:
        screen = self._workers()["screen"]["pid"]
        with self._unhurt("output: full") as deed:
            lost, came_back = self._said("it is tried again"), self._said("goes on, in ")
            limits = resource.prlimit(screen, resource.RLIMIT_FSIZE)
            resource.prlimit(screen, resource.RLIMIT_FSIZE, (0, limits[1]))
            self._await(lambda: self._said("it is tried again") > lost, "the full disk told")
            resource.prlimit(screen, resource.RLIMIT_FSIZE, limits)
            self._await(lambda: self._said("goes on, in ") > came_back, "the film going on")
        return deed[0]

    def _camera_vanishes(self) -> Deed:
        with self._unhurt("input: gone") as deed:
            self._camera.vanish()
            time.sleep(_AWAY_S)
            self._camera.come_back()
            self._await_fresh()
        return deed[0]

    def _reader_dies_without_camera(self) -> Deed:
        start_s = time.monotonic()
        self._camera.vanish()
        Chaos(self._run, 0, self._patience_s).act("camera", "kill")
        self._camera.come_back()
        self._await_fresh()
        end_s = time.monotonic()
        gap_s = self._viewer.longest_gap_s(start_s, end_s)
        return Deed("input: dead and gone", end_s - start_s, gap_s)

    def _camera_falls_silent(self) -> Deed:
        with self._unhurt("input: silent") as deed:
            self._camera.fall_silent()
            time.sleep(1.5 * HUNG_S)
            self._camera.come_back()
            self._await_fresh()
        return deed[0]

    @contextlib.contextmanager
    def _unhurt(self, what: str) -> Iterator[list[Deed]]:
        """No worker may die of what happens inside; the deed is in the list afterwards."""
        deed: list[Deed] = []
        before = self._await(self._all_run, "all workers running")
        start_s = time.monotonic()
        yield deed
        end_s = time.monotonic()
        for name, worker in self._await(self._all_run, "all workers running").items():
            if worker["restarts"] != before[name]["restarts"]:
                cause = worker["post_mortem"]["cause"]
                raise BrokenPromise(f"{what}: {name} was started again ({cause})")
        deed.append(Deed(what, end_s - start_s, self._viewer.longest_gap_s(start_s, end_s)))

    def _up(self) -> None:
        settings = {
            "size": f"{_SIZE.width}x{_SIZE.height}",
            "rate_hz": f"{RATE_HZ:g}",
            "device": "cpu",
            "stages.capture.input": self._camera.url,
            "stages.output.outputs": f"[mjpeg://127.0.0.1:{self._port}, {self._films}/film.mkv]",
            "supervision.health_check_timeout_s": f"{HUNG_S:g}",
            "supervision.max_restarts": "20",
            "supervision.restart_window_s": "5",
        }
        flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        _livesd("up", "multi_process", "--name", _NAME, *flags)
        (self._run,) = find_runs()
        self._look()

    def _look(self) -> None:
        """Note what must be gone at the end."""
        status = ask_status(self._run.status_socket)
        for pid in (status["pid"], *(worker["pid"] for worker in status["workers"].values())):
            found = process(pid) if pid is not None else None
            self._seen |= {found} if found else set()
        self._memory |= memory_files(self._run.pid)

    def _check_memory(self) -> None:
        pids = holders(self._memory)
        if pids:
            raise BrokenPromise(f"left behind: memory of the run, held by {pids}")

    def _check_films(self) -> None:
        """Every film that was begun must play from its first picture to its end."""
        films = sorted(self._films.glob("*.mkv"))
        if not films:
            raise BrokenPromise(f"no film in {self._films}")
        for film in films:
            if film.stat().st_size < _HEADER_BYTES:
                continue  # cut off before its first second was complete, and so without a picture
            try:
                with av.open(str(film)) as container:
                    pictures = sum(1 for _ in container.decode(video=0))
            except (OSError, av.FFmpegError) as error:
                raise BrokenPromise(f"{film} does not play: {error}") from error
            self._told(f"{film.name}: {pictures} pictures")

    def _accounts(self) -> dict[str, Any]:
        told = re.findall(rf"{_NAME}: frames (\{{.*)", self._log.read_text())
        if not told:
            raise BrokenPromise(f"the run did not account for its frames: {self._log}")
        frames: dict[str, Any] = json.loads(told[-1])
        dropped = sum(frames["dropped"].values())
        rest = frames["captured"] - frames["emitted"] - dropped - frames["failed"]
        if rest != frames["in_flight"] or frames["in_flight"] or not frames["emitted"]:
            raise BrokenPromise(f"frames without account: {frames}")
        return frames

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = ask_status(self._run.status_socket)["workers"]
        return workers

    def _all_run(self) -> dict[str, Any] | None:
        workers = self._workers()
        return workers if all(w["state"] == "running" for w in workers.values()) else None

    def _said(self, text: str) -> int:
        return self._log.read_text(errors="replace").count(text)

    def _await(self, condition: Callable[[], Any], what: str) -> Any:
        return awaited(condition, what, self._patience_s)

    def _await_pictures(self) -> None:
        now_s = time.monotonic()
        self._await(lambda: self._viewer.count(now_s, now_s + 1e9) >= _ENOUGH, "pictures")

    def _await_fresh(self) -> None:
        def emitted() -> int:
            found: int = self._workers()["screen"]["status"].get("emitted", 0)
            return found

        before = emitted()
        self._await(lambda: emitted() >= before + _ENOUGH, "fresh pictures")

    def _kill_all(self) -> None:
        for run in find_runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
        self._await(lambda: not _alive(self._seen), "the end of what was started")


def _livesd(*arguments: str) -> None:
    done = subprocess.run(
        [*LIVESD, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise LsdError(f"livesd {arguments[0]}: {done.stderr.strip()}")


def _alive(processes: set[Process]) -> set[Process]:
    return {each for each in processes if process(each[0]) == each}


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError as error:
        raise BrokenPromise(f"the screen (pid {pid}) has died") from error


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
