"""Who can reach a wire has to have the keys."""

import json
import os

import pytest
from typer.testing import CliRunner
from zmq.utils import z85

from lsd.pipeline.__main__ import main  # noqa: F401 - the command must be there
from lsd.pipeline.cli import app
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.links.endpoints import Keys, admitted, require_safe


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("tcp://5555", "tcp://127.0.0.1:5555"),
        ("tcp://:5555", "tcp://127.0.0.1:5555"),
        ("tcp://*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.2:*", "tcp://127.0.0.2:*"),
        ("tcp://localhost:1", "tcp://localhost:1"),
        ("tcp://[::1]:1", "tcp://[::1]:1"),
    ],
)
def test_address_is_this_hosts_unless_told_otherwise(given, used):
    assert require_safe(given, None) == used


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.5", "camera.local", "[::]", "eth0"])
def test_address_that_others_reach_needs_keys(host):
    with pytest.raises(ConfigError, match="livesd keys"):
        require_safe(f"tcp://{host}:5555", None)
    assert require_safe(f"tcp://{host}:5555", Keys.make()) == f"tcp://{host}:5555"


@pytest.mark.parametrize("text", ["", "udp://x:1", "tcp://host:port", "ipc://relative", "x"])
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ConfigError, match="expected tcp"):
        require_safe(text, None)


def test_sockets_are_in_a_directory_of_ones_own(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="must exist"):
        require_safe(f"ipc://{folder}/x", None)
    folder.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="0700"):
        require_safe(f"ipc://{folder}/x", None)
    folder.chmod(0o700)
    assert require_safe(f"ipc://{folder}/x", None) == f"ipc://{folder}/x"


def test_keys_come_back_from_their_file_which_nobody_else_reads(tmp_path):
    keys, path = Keys.make(), tmp_path / "lsd.keys"
    before = os.umask(0)
    try:
        keys.save(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keys.load(path) == keys
    with pytest.raises(ConfigError, match="never overwritten"):
        Keys.make().save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keys.load(path)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"public": 1, "secret": 2}', '{"public": "x", "secret": "y"}']
)
def test_file_that_holds_no_keys_is_refused(tmp_path, text):
    path = tmp_path / "lsd.keys"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no key pair"):
        Keys.load(path)


def test_halves_of_two_pairs_are_refused(tmp_path):
    path = tmp_path / "lsd.keys"
    path.write_text(json.dumps({"public": Keys.make().public, "secret": Keys.make().secret}))
    with pytest.raises(ConfigError, match="do not belong together"):
        Keys.load(path)
    with pytest.raises(ConfigError, match="make it with: livesd keys"):
        Keys.load(tmp_path / "none")


def test_command_writes_keys_once(tmp_path):
    path = tmp_path / "lsd.keys"
    assert CliRunner().invoke(app, ["keys", str(path)]).exit_code == 0
    Keys.load(path)
    again = CliRunner().invoke(app, ["keys", str(path)])
    assert again.exit_code == 2
    assert "never overwritten" in again.output


def test_only_the_deployments_key_is_admitted():
    keys = Keys.make()
    own, other = (z85.decode(pair.public.encode()) for pair in (keys, Keys.make()))

    def answer(mechanism, *credentials):
        request = [b"1.0", b"7", b"lsd", b"10.0.0.1", b"", mechanism, *credentials]
        return admitted(request, keys)[1:3]

    assert answer(b"CURVE", own) == [b"7", b"200"]
    assert answer(b"CURVE", other) == [b"7", b"400"]
    assert answer(b"NULL") == [b"7", b"400"]
    assert answer(b"PLAIN", own, b"x") == [b"7", b"400"]
