"""What `hosts:` means, which of it is refused, and what the workers of a host are told."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lsd.pipeline.config import load_config
from lsd.pipeline.deploy import deploy
from lsd.pipeline.errors import ConfigError, GraphError
from lsd.pipeline.hosts import Wire, chosen_host, numeric, wires
from lsd.pipeline.launch import build_graph
from lsd.pipeline.links.endpoints import Keys
from lsd.pipeline.placement import place
from lsd.pipeline.placement_drawing import drawn
from lsd.pipeline.wiring import wired

STAGES = """\
name: trial
stages: {capture: {input: "test://moving"}, recall: , diffusion: , memory: , blend: , output: }
feedback: {from: blend, to: [diffusion, memory, blend], delay: 1}
"""
HOSTS = "hosts: {desk: {address: 127.0.0.1}, rack: {address: 127.0.0.2, port: 7800}}\n"
WORKERS = """\
workers:
  eye: {stages: [capture], host: desk}
  steady: {stages: [recall], host: desk}
  style: {stages: [diffusion, memory, blend], host: rack}
  hand: {stages: [output], host: desk}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(rest, head=STAGES):
        (tmp_path / "p.yaml").write_text(head + rest)
        return load_config("p.yaml")

    return load


def told(deployment, worker):
    """Return the options of a worker that are about its links."""
    argv = next(spec.argv for spec in deployment.specs if spec.name == worker)
    at = [place for place, word in enumerate(argv) if word in ("--wire", "--keys")]
    return [argv[place + 1] for place in at] + [word for word in argv if "elsewhere" in word]


def test_links_between_hosts_are_wires_and_who_sends_listens(config):
    loaded = config(HOSTS + WORKERS)
    placement = place(loaded)
    assert [link.kind for link in placement.links] == ["shm", "wire", "call", "call", "wire"]
    assert placement.on("desk") == ["eye", "steady", "hand"]
    assert wires(loaded, placement) == [
        Wire("steady", "style", "tcp://127.0.0.1:7700", "tcp://127.0.0.1:7700"),
        Wire("style", "hand", "tcp://127.0.0.2:7800", "tcp://127.0.0.2:7800"),
    ]


def test_each_further_link_of_a_host_has_the_next_port_and_it_may_listen_elsewhere(config):
    loaded = config(
        "hosts: {a: {address: fd00::1, listen: '::'}, b: {address: rack.local, port: 9000}}\n"
        "workers:\n"
        "  one: {stages: [capture], host: a}\n"
        "  two: {stages: [recall], host: b}\n"
        "  three: {stages: [diffusion, memory, blend], host: a}\n"
        "  four: {stages: [output], host: b}\n"
    )
    found = wires(loaded, place(loaded))
    assert [wire.listen for wire in found] == [
        "tcp://[::]:7700", "tcp://rack.local:9000", "tcp://[::]:7701"
    ]  # fmt: skip
    assert [wire.connect for wire in found] == [
        "tcp://[fd00::1]:7700", "tcp://rack.local:9000", "tcp://[fd00::1]:7701"
    ]  # fmt: skip


def test_a_host_starts_its_own_workers_and_tells_each_its_ends(config):
    loaded = config(HOSTS + WORKERS)
    desk, rack = deploy(loaded, host="desk"), deploy(loaded, host="rack")
    assert [spec.name for spec in desk.specs] == ["eye", "steady", "hand"]
    assert [spec.name for spec in rack.specs] == ["style"]
    assert told(desk, "eye") == []
    assert told(desk, "steady") == ["out=tcp://127.0.0.1:7700"]
    assert told(desk, "hand") == ["in=tcp://127.0.0.2:7800"]
    assert told(rack, "style") == [
        "in=tcp://127.0.0.1:7700", "out=tcp://127.0.0.2:7800", "--source-elsewhere"
    ]  # fmt: skip
    assert "out.memory" in desk.specs[0].fds
    assert not any(name.startswith("out.") for name in desk.specs[1].fds)
    assert "checkpoint" in rack.specs[0].fds
    assert [("checkpoint" in spec.fds) for spec in desk.specs] == [True, True, False]


def test_off_loopback_keys_are_asked_for_and_handed_on(config, tmp_path):
    hosts = HOSTS.replace("127.0.0.1", "10.0.0.1, listen: 0.0.0.0").replace("127.0.0.2", "10.0.0.2")
    with pytest.raises(ConfigError, match=r"p.yaml:4:1: tcp://0.0.0.0:7700: others can reach"):
        deploy(config(hosts + WORKERS), host="desk")
    keyed = hosts + WORKERS + "wire: {keys: lsd.keys}\n"
    with pytest.raises(ConfigError, match=r"lsd.keys: cannot be read .* livesd keys lsd.keys"):
        deploy(config(keyed), host="desk")
    Keys.make().save(tmp_path / "lsd.keys")
    assert told(deploy(config(keyed), host="desk"), "steady") == [
        str(tmp_path / "lsd.keys"), "out=tcp://0.0.0.0:7700"
    ]  # fmt: skip


def test_the_file_survives_the_way_to_the_workers(config, tmp_path):
    loaded = config(HOSTS + WORKERS + "wire: {compress: true, window: 3}\n")
    (tmp_path / "q.json").write_text(loaded.model_dump_json(by_alias=True))
    again = load_config("q.json")
    assert (again.hosts, again.wire, again.workers) == (loaded.hosts, loaded.wire, loaded.workers)


def test_which_host_this_is_must_be_said(config):
    several, one = config(HOSTS + WORKERS), config("")
    assert chosen_host(several, "rack") == "rack"
    assert chosen_host(one, None) is None
    with pytest.raises(ConfigError, match="say which one this is: --host desk or --host rack"):
        chosen_host(several, None)
    with pytest.raises(ConfigError, match=r"p.yaml:4:1: no host is called 'rick'; .*rack"):
        chosen_host(several, "rick")
    with pytest.raises(ConfigError, match="has no 'hosts:'; leave it out"):
        chosen_host(config(""), "desk")


@pytest.mark.skipif(sys.platform != "linux", reason="rings need Linux")
def test_a_captured_picture_passes_by_the_others_on_its_own_host_only(config):
    there = WORKERS.replace("[output], host: desk", "[output], host: rack")
    for workers, expected in ((WORKERS, {"eye", "hand"}), (there, set())):
        loaded = config(HOSTS + workers + "on_miss: passthrough\n")
        fds = {}
        for host in ("desk", "rack"):
            fds |= wired(loaded, place(loaded), host)
        assert {name for name, given in fds.items() if "newest.memory" in given} == expected


def test_a_recurrence_stays_on_one_host(config):
    split = WORKERS.replace("[diffusion, memory, blend]", "[diffusion]").replace(
        "  hand: {stages: [output]", "  hand: {stages: [memory, blend, output]"
    )
    told = r"\(style on rack, hand on desk\), and no wire brings the last output back .* one host"
    with pytest.raises(GraphError, match=told):
        deploy(config(HOSTS + split), host="desk")


@pytest.mark.parametrize(
    ("rest", "wanted"),
    [
        (
            WORKERS,
            "p.yaml:5:28: there are no 'hosts:'; add them, or remove this (workers.eye.host)",
        ),
        (HOSTS, "p.yaml:4:1: hosts need 'workers:', each with its 'host:' (hosts)"),
        (
            HOSTS + WORKERS.replace("desk", "dosk", 1),
            "no host is called 'dosk'; did you mean 'desk'",
        ),
        (HOSTS + WORKERS.replace(", host: rack", ""), "p.yaml:8:3: say which host it runs on"),
        (HOSTS + WORKERS.replace("rack", "desk"), "no worker runs on host 'rack'"),
        (HOSTS + WORKERS + "instances: 2\n", "'instances:' or 'hosts:', not both"),
        ("wire: {compress: true}\n", "p.yaml:4:1: without 'hosts:' there is no wire"),
        (
            HOSTS.replace("2, port: 7800", "1") + WORKERS,
            "'desk' and 'rack' are reached at one port",
        ),
        (HOSTS.replace("address: 127.0.0.1", "adress: 127.0.0.1") + WORKERS, "adress"),
        (HOSTS.replace("127.0.0.1", "tcp://x") + WORKERS, "hosts.desk.address"),
        (
            HOSTS.replace("127.0.0.1", "0.0.0.0") + WORKERS,
            "p.yaml:4:25: nobody can reach 0.0.0.0; give its address, and 'listen: 0.0.0.0'",
        ),
        (HOSTS + WORKERS + "wire: {window: 0}\n", "wire.window"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(config, rest, wanted):
    with pytest.raises(ConfigError) as told:
        config(rest)
    assert wanted in str(told.value)


def test_a_name_to_listen_on_becomes_a_number():
    assert numeric("tcp://127.0.0.1:7700") == "tcp://127.0.0.1:7700"
    assert numeric("tcp://[::1]:7700") == "tcp://[::1]:7700"
    assert numeric("tcp://localhost:7700") == "tcp://127.0.0.1:7700", "who connects comes by IPv4"
    with pytest.raises(ConfigError, match=r"no.such.host.invalid cannot be looked up"):
        numeric("tcp://no.such.host.invalid:7700")


def test_hosts_may_listen_alike_on_machines_of_their_own(config):
    anywhere = "hosts: {desk: {address: 10.0.0.1, listen: 0.0.0.0}, rack: {address: 10.0.0.2, "
    loaded = config(anywhere + "listen: 0.0.0.0}}\n" + WORKERS)
    found = wires(loaded, place(loaded))
    assert [wire.listen for wire in found] == ["tcp://0.0.0.0:7700"] * 2


def test_two_hosts_at_one_address_may_not_reach_into_each_others_ports(config):
    loaded = config(
        "hosts: {a: {address: 127.0.0.1}, b: {address: 127.0.0.1, port: 7701}}\n"
        "workers:\n"
        "  one: {stages: [capture], host: a}\n"
        "  two: {stages: [recall], host: b}\n"
        "  three: {stages: [diffusion, memory, blend], host: a}\n"
        "  four: {stages: [output], host: b}\n"
    )
    with pytest.raises(ConfigError, match=r"127.0.0.1:7701: hosts 'b' and 'a' would both listen"):
        deploy(loaded, host="a")


def test_a_machine_that_is_not_the_host_is_told_before_anything_is_started():
    with pytest.raises(ConfigError, match=r"192.0.2.7:7700: this machine cannot listen there"):
        numeric("tcp://192.0.2.7:7700")  # RFC 5737: nobody's


def test_a_name_that_means_this_machine_to_itself_only_is_refused(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 7700))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: found)
    with pytest.raises(ConfigError, match=r"on this machine rack is 127.0.1.1, where no other"):
        numeric("tcp://rack:7700")


def test_hosts_and_wires_are_drawn(config):
    loaded = config(HOSTS + WORKERS)
    about = {name: worker.about for name, worker in loaded.workers.items()}
    text = drawn(place(loaded), build_graph(loaded), about, "text")
    assert "[style: rack]" in text
    assert "| wire, block 1" in text


def test_the_command_says_what_is_missing(config):
    config(HOSTS + WORKERS)
    ran = subprocess.run(
        [Path(sys.executable).with_name("livesd"), "run", "p.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "say which one this is: --host desk or --host rack" in ran.stderr
    assert "Traceback" not in ran.stderr
