"""Where a supervised run is found by its name: a folder that only its user may enter.

$XDG_RUNTIME_DIR/livesd/NAME, or /tmp/livesd-UID/NAME, holds `pid` and `status.sock`. The `pid` is
locked as long as the supervisor lives, and the kernel lets go of it however that ends; so a folder
whose `pid` can be locked is a dead run's, and is removed by whoever comes across it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from lsd.pipeline.errors import ConfigError, LsdError

# Longer than a supervisor takes to end the most stubborn worker: stop, SIGTERM, SIGKILL.
DOWN_S = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


class RunDirectory:
    """The folder of a run of this process, or of another that is alive.

    Attributes:
        name: what the run is called.
        path: the folder.
        pid: the supervisor.
    """

    def __init__(self, path: Path, pid: int, lock: int | None = None) -> None:
        self.path = path
        self.name = path.name
        self.pid = pid
        self._lock = lock

    @property
    def status_socket(self) -> Path:
        """Where the supervisor tells how it goes."""
        return self.path / "status.sock"

    @property
    def order_socket(self) -> Path:
        """Where the supervisor takes orders."""
        return self.path / "orders.sock"

    def end(self) -> None:
        """Have the supervisor end the run in order, and wait for it.

        Raises:
            LsdError: it does not.
        """
        try:
            supervisor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(supervisor, signal.SIGTERM)
            ended, _, _ = select.select([supervisor], [], [], DOWN_S)
        finally:
            os.close(supervisor)
        if not ended:
            raise LsdError(
                f"{self.name}: the supervisor (pid {self.pid}) does not end; kill -9 {self.pid} "
                "takes its workers with it"
            )

    def remove(self) -> None:
        """Remove the folder, and let go of the name."""
        assert self._lock is not None, "only its own process removes a run"
        with _exclusively(self.path.parent):
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)


def claim(name: str) -> RunDirectory:
    """Take a name for a run of this process.

    Raises:
        ConfigError: it is no name, or is taken by a run that is alive.
        LsdError: the folder cannot be made, or is not safe.
    """
    path = _base() / checked_name(name)
    with _exclusively(_made_base()):
        alive = _alive(path)
        if alive is not None:
            raise ConfigError(
                f"{name} runs already (pid {alive}); end it with: livesd down {name}, or give "
                "this one another name: --name NAME"
            )
        try:
            path.mkdir(mode=0o700)
            lock = os.open(path / "pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(lock, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise LsdError(f"{path}: cannot be made: {error.strerror}") from error
    return RunDirectory(path, os.getpid(), lock)


def find_runs(tell: Callable[[str], None] = lambda text: None) -> list[RunDirectory]:
    """Return the runs that are alive, by name; what dead ones left is removed.

    Args:
        tell: is given a line for each of those.
    """
    base = _base()
    if not base.is_dir():
        return []
    _check_safe(base)
    runs: list[RunDirectory] = []
    dead: list[str] = []
    with _exclusively(base):
        for path in sorted(base.iterdir()):
            pid = _alive(path, dead.append)
            if pid is not None:
                runs.append(RunDirectory(path, pid))
    for line in dead:  # a terminal that does not take it keeps nobody else out
        tell(line)
    return runs


def checked_name(name: str) -> str:
    """Return `name`, or say what a name is."""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"--name {name}: expected up to 48 letters, digits, '.', '_' and '-', the first a "
            "letter or digit"
        )
    return name


def name_for(config_name: str) -> str:
    """Make a run's name of a pipeline's.

    >>> name_for("my pipeline (2)")
    'my-pipeline-2'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", config_name).strip("-._")[:48] or "pipeline"


def _base() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "livesd" if runtime else Path(f"/tmp/livesd-{os.getuid()}")


def _made_base() -> Path:
    base = _base()
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LsdError(f"{base}: cannot be made: {error.strerror}") from error
    _check_safe(base)
    return base


def _check_safe(base: Path) -> None:
    """Refuse a folder that another user may have prepared; /tmp is everybody's."""
    found = base.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise LsdError(
            f"{base}: expected a folder of your own with mode 0700; remove it, or set "
            "XDG_RUNTIME_DIR to a folder of yours"
        )


def _alive(path: Path, tell: Callable[[str], None] = lambda text: None) -> int | None:
    """Return who runs there; where nobody does, remove what is left. The base is locked."""
    try:
        lock = os.open(path / "pid", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        _sweep(path)
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(lock)
    else:
        tell(
            f"{path.name}: its supervisor (pid {_read_pid(lock)}) was killed, which ends its "
            "workers; what it left here is removed"
        )
    finally:
        os.close(lock)
    _sweep(path)
    return None


def _read_pid(lock: int) -> int:
    text = os.read(lock, 32).decode(errors="replace").strip()
    return int(text) if text.isdigit() else 0


def _sweep(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _exclusively(base: Path) -> Iterator[None]:
    """Keep other processes out of the base: nobody sweeps a run that is just being made."""
    try:
        lock = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LsdError(f"{base}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
