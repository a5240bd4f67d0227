"""Where a wire ends, and who may be there: addresses, run directories, keys."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from lsd.pipeline.errors import ConfigError

_KEY_CHARACTERS = 40  # Z85 of 32 bytes


class Keys(NamedTuple):
    """The one CURVE key pair of a deployment: who has it may be at either end of a wire."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> Keys:
        """Draw a new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def load(cls, path: Path) -> Keys:
        """Read a file that `save` wrote.

        Raises:
            ConfigError: it is missing, damaged, or others may read it.
        """
        try:
            mode = path.stat().st_mode
            found = json.loads(path.read_text(encoding="utf-8"))
            keys = cls(found["public"], found["secret"])
            agree = zmq.curve_public(keys.secret.encode()).decode() == keys.public
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); make it with: livesd keys {path}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, zmq.ZMQError) as error:
            raise ConfigError(f"{path}: no key pair; make one with: livesd keys FILE") from error
        if not agree or len(keys.public) != _KEY_CHARACTERS:
            raise ConfigError(f"{path}: public and secret key do not belong together")
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path}: others may read the secret key (mode {mode & 0o777:04o}); "
                f"run: chmod 600 {path}"
            )
        return keys

    def save(self, path: Path) -> None:
        """Write it to a new file that nobody else may read.

        Raises:
            ConfigError: the file exists, or cannot be written.
        """
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written ({error.strerror}); keys are never overwritten"
            ) from error
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(self._asdict(), file)
            file.write("\n")


@contextmanager
def run_directory() -> Iterator[Path]:
    """Make a directory for the sockets of one run, for this user only; removed at the end."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(tempfile.mkdtemp(prefix="lsd-", dir=base if base and Path(base).is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def require_safe(endpoint: str, keys: Keys | None) -> str:
    """Return an endpoint that may be used as it is.

    A TCP address without a host (`tcp://:5555`, `tcp://5555`) is one of this host.

    Args:
        endpoint: `tcp://HOST:PORT` or `ipc://PATH`.
        keys: the deployment's, if it has any.

    Raises:
        ConfigError: it is none, others can reach it and there are no keys, or others may
            write to the directory of its socket.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest.startswith("/"):
        _require_private(Path(rest).parent)
        return endpoint
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not (port.isdigit() or port == "*"):
        raise ConfigError(
            f"{endpoint}: expected tcp://HOST:PORT, or ipc:///PATH in a directory of your own"
        )
    host = host or "127.0.0.1"
    if keys is None and not is_loopback(host):
        raise ConfigError(
            f"{endpoint}: others can reach this address, and the link has no keys; make some with "
            "`livesd keys FILE`, give both hosts that file, and name it in the pipeline: "
            "`wire: {keys: FILE}`"
        )
    return f"tcp://{host}:{port}"


def secure(sock: zmq.Socket[bytes], keys: Keys, *, bind: bool) -> None:
    """Have a socket speak to those with the same keys only; `admit` for those that bind."""
    sock.curve_publickey, sock.curve_secretkey = keys.public.encode(), keys.secret.encode()
    if bind:
        sock.curve_server = True
        sock.zap_domain = b"lsd"
    else:
        sock.curve_serverkey = keys.public.encode()


def admitted(request: list[bytes], keys: Keys) -> list[bytes]:
    """Answer ZeroMQ's question who may come in (RFC 27): those with the deployment's key.

    CURVE alone lets in everyone who knows the public key of who binds.
    """
    version, request_id, *_, mechanism = request[:6]
    credential = request[6] if len(request) > 6 else b""
    known = z85.decode(keys.public.encode())
    is_ours = mechanism == b"CURVE" and credential == known
    code, text = (b"200", b"OK") if is_ours else (b"400", b"another key")
    return [version, request_id, code, text, b"", b""]


def is_loopback(host: str) -> bool:
    """Return whether only this machine itself can be reached at an address or a name.

    >>> is_loopback("localhost"), is_loopback("127.0.1.1"), is_loopback("10.0.0.2")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _require_private(folder: Path) -> None:
    try:
        found = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; the socket's directory must exist") from (
            error
        )
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{folder}: others may open sockets there (mode {found.st_mode & 0o777:04o}); use a "
            "directory of your own with mode 0700"
        )
