"""What `hosts:` and `wire:` of a pipeline file say: the machines, and the links between them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from lsd.pipeline.errors import ConfigError
from lsd.pipeline.strict import StageName, Strict
from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.yaml_locations import Document, Problem

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig
    from lsd.pipeline.placement import Placement

FIRST_PORT = 7700
_ANYWHERE = ("0.0.0.0", "::")  # to listen on

HostName = StageName
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9._:-]{0,254}$")]


class HostConfig(Strict):
    """One machine: where the others reach it."""

    address: Address = Field(description="Where the other hosts reach it: an IP address or a name")
    port: int = Field(
        FIRST_PORT,
        ge=1,
        le=65_000,
        description="The first port that it listens on; each further link that leaves it takes "
        "the next one",
    )
    listen: Address | None = Field(
        None,
        description="What it listens on, where that is not its address: 0.0.0.0 in a container",
    )


class WireConfig(Strict):
    """The links between hosts."""

    keys: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="The file with the deployment's keys, made by `livesd keys FILE`, the same on "
        "every host; needed wherever others can reach a link",
    )
    compress: bool = Field(
        False, description="Make the pixels smaller, for a network slower than the processor"
    )
    window: int | None = Field(
        None,
        ge=1,
        le=64,
        description="How many frames may be under way on a link: one, and one more for every "
        "period that a round trip takes; default: 1 live, 4 file to file",
    )


class Wire(NamedTuple):
    """A link between two hosts; who sends listens, and who receives comes.

    Attributes:
        source_worker, target_worker: at its two ends.
        listen: the endpoint that the sender listens on.
        connect: the one that the receiver connects to.
    """

    source_worker: str
    target_worker: str
    listen: str
    connect: str


def wires(config: PipelineConfig, placement: Placement) -> list[Wire]:
    """Work out the ends of every link between hosts; the same on each of them.

    Raises:
        ConfigError: two of them would be at one port.
    """
    hosts, used = config.hosts or {}, dict.fromkeys(config.hosts or {}, 0)
    found: list[Wire] = []
    for link in placement.links:
        if link.kind != "wire":
            continue
        name = placement.hosts[link.source_worker]
        host = hosts[name]
        port = host.port + used[name]
        used[name] += 1
        connect = _endpoint(host.address, port)
        other = next((wire for wire in found if wire.connect == connect), None)
        if other is not None:
            hosts_of = f"{placement.hosts[other.source_worker]!r} and {name!r}"
            raise ConfigError(
                f"{connect}: hosts {hosts_of} would both listen there, since each link that leaves "
                "a host takes one more port; put their 'port:' further apart"
            )
        listen = _endpoint(host.listen or host.address, port)
        found.append(Wire(link.source_worker, link.target_worker, listen, connect))
    return found


def chosen_host(config: PipelineConfig, host: str | None) -> str | None:
    """Return which of a pipeline's hosts this is; None where it has none.

    Raises:
        ConfigError: it has some and none was named, or there is no such host.
    """
    hosts = config.hosts
    if hosts is None:
        if host is not None:
            raise ConfigError(f"--host {host}: {config.where()} has no 'hosts:'; leave it out")
        return None
    names = " or ".join(f"--host {name}" for name in hosts)
    if host is None:
        raise ConfigError(
            f"{config.where('hosts')}: it runs on several hosts; say which one this is: {names}"
        )
    if host not in hosts:
        hint = did_you_mean(host, hosts, "the hosts are")
        raise ConfigError(f"{config.where('hosts')}: no host is called {host!r}; {hint}")
    return host


def numeric(endpoint: str) -> str:
    """Return an endpoint to listen on with a number for its name: ZeroMQ looks up none there.

    Raises:
        ConfigError: the name cannot be looked up, or means this machine to itself only; or this
            machine has no such address.
    """
    from lsd.pipeline.links.endpoints import is_loopback

    head, _, port = endpoint.rpartition(":")
    name = head.removeprefix("tcp://").strip("[]")
    # Who connects by a name, comes by IPv4: ZeroMQ looks up the one kind or the other.
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        found = socket.getaddrinfo(name, int(port), family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(
            f"{endpoint}: {name} cannot be looked up ({error}); give the host's IP address"
        ) from error
    address = str(found[0][4][0])
    if is_loopback(address) and not is_loopback(name):  # as Debian's /etc/hosts has it
        raise ConfigError(
            f"{endpoint}: on this machine {name} is {address}, where no other host can come; give "
            "its IP address, or add 'listen: 0.0.0.0'"
        )
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        try:
            trial.bind((address, 0))
        except OSError as error:
            raise ConfigError(
                f"{endpoint}: this machine cannot listen there ({error.strerror}); is it the host "
                "that --host names? Behind a translated address, add 'listen: 0.0.0.0'"
            ) from error
    return _endpoint(address, int(port))


def host_problems(document: Document) -> Iterator[Problem]:
    """Yield a line for everything that keeps `hosts` from holding each worker once."""
    data = document.data if isinstance(document.data, dict) else {}
    hosts, workers = data.get("hosts"), data.get("workers")
    placed = {
        name: item["host"]
        for name, item in (workers.items() if isinstance(workers, dict) else ())
        if isinstance(item, dict) and isinstance(item.get("host"), str)
    }
    if hosts is None:
        for name in placed:
            text = f"there are no 'hosts:'; add them, or remove this (workers.{name}.host)"
            yield Problem(document.where(("workers", name, "host"), key=True), text)
        if data.get("wire") is not None:
            text = "without 'hosts:' there is no wire; remove it (wire)"
            yield Problem(document.where(("wire",), key=True), text)
        return
    if not isinstance(hosts, dict):
        return
    yield from _needs(document, data)
    yield from _homes(document, hosts, workers, placed)
    yield from _places(document, hosts)


def _needs(document: Document, data: Mapping[str, object]) -> Iterator[Problem]:
    where = document.where(("hosts",), key=True)
    if data.get("workers") is None:
        yield Problem(where, "hosts need 'workers:', each with its 'host:' (hosts)")
    if data.get("instances") is not None:
        yield Problem(where, "a pipeline has 'instances:' or 'hosts:', not both (hosts)")


def _homes(
    document: Document, hosts: Mapping[str, object], workers: object, placed: Mapping[str, str]
) -> Iterator[Problem]:
    for name, item in workers.items() if isinstance(workers, dict) else ():
        if name in placed and placed[name] not in hosts:
            hint = did_you_mean(placed[name], hosts, "the hosts are")
            text = f"no host is called {placed[name]!r}; {hint} (workers.{name}.host)"
            yield Problem(document.where(("workers", name, "host")), text)
        elif not isinstance(item, dict) or item.get("host") is None:
            names = ", ".join(hosts)
            text = f"say which host it runs on: {{stages: [...], host: NAME}}, one of {names}"
            where = document.where(("workers", name), key=True)
            yield Problem(where, f"{text} (workers.{name})")
    for name in hosts:
        if isinstance(workers, dict) and name not in placed.values():
            text = f"no worker runs on host {name!r}; remove it, or give it one (hosts.{name})"
            yield Problem(document.where(("hosts", name), key=True), text)


def _places(document: Document, hosts: Mapping[str, object]) -> Iterator[Problem]:
    first: dict[tuple[object, object], str] = {}
    for name, item in hosts.items():
        if not isinstance(item, dict):
            continue
        place = item.get("address"), item.get("port", FIRST_PORT)
        if place[0] in _ANYWHERE:
            text = f"nobody can reach {place[0]}; give its address, and 'listen: {place[0]}'"
            where = document.where(("hosts", name, "address"))
            yield Problem(where, f"{text} (hosts.{name}.address)")
        elif place in first:
            text = f"hosts {first[place]!r} and {name!r} are reached at one port; change one"
            where = document.where(("hosts", name), key=True)
            yield Problem(where, f"{text} (hosts.{name}.port)")
        first.setdefault(place, name)


def _endpoint(address: str, port: int) -> str:
    """Write an endpoint of ZeroMQ's.

    >>> _endpoint("10.0.0.2", 7700), _endpoint("fd00::2", 7700)
    ('tcp://10.0.0.2:7700', 'tcp://[fd00::2]:7700')
    """
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"
