"""What an instance of a pipeline has to itself: files, ports, cameras; and who else wants it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from lsd.pipeline.yaml_locations import Problem, Where

if TYPE_CHECKING:
    from lsd.pipeline.config import PipelineConfig

_EVERYWHERE = ("0.0.0.0", "::", "")
_CAMERA = re.compile(r"(?:v4l2://)?(/dev/video\d+)(?:\?.*)?")
_HINT = "give it another, or write {instance} in the name"


class Claim(NamedTuple):
    """One thing that only one instance can have.

    Attributes:
        instance: who wants it.
        text: as the user wrote it.
        where: where that stands.
        verb: what the instance would do with it.
        path: a file, a folder or a camera; None: it is a port.
        host, port: what it would listen on.
    """

    instance: str
    text: str
    where: Where
    verb: str
    path: Path | None = None
    host: str = ""
    port: int = 0


def clashes(instances: Mapping[str, PipelineConfig]) -> Iterator[Problem]:
    """Yield a line for each instance that wants what another has."""
    known: list[Claim] = []
    for name, config in instances.items():
        for claim in _claims(name, config):
            other = next((each for each in known if _collide(each, claim)), None)
            if other is not None:
                yield Problem(claim.where, _told(claim, other))
            known.append(claim)


def _claims(instance: str, config: PipelineConfig) -> Iterator[Claim]:
    for stage, options in config.stages.items():
        where = config.place("stages", stage, "outputs")
        for text in getattr(options, "outputs", ()):
            claim = Claim(instance, text, where, "write to")
            scheme, separator, rest = text.partition("://")
            if not separator:
                yield claim._replace(path=Path(text).expanduser().resolve())
            elif scheme == "file":
                yield claim._replace(path=Path(unquote(rest)).resolve())
            elif scheme != "null":
                address = urlsplit(f"//{rest}")
                yield claim._replace(host=address.hostname or "", port=address.port or -1)
        camera = _CAMERA.fullmatch(str(getattr(options, "input", "")))
        if camera is not None:
            where = config.place("stages", stage, "input")
            yield Claim(instance, camera[1], where, "read", path=Path(camera[1]).resolve())
    if config.metrics is not None:
        host, port = config.metrics.host, config.metrics.port
        where = config.place("metrics", "port")
        yield Claim(instance, f"port {port}", where, "serve its metrics on", host=host, port=port)


def _collide(one: Claim, other: Claim) -> bool:
    if one.instance == other.instance:  # the pipeline's own stages see to that
        return False
    if one.path is not None and other.path is not None:
        return one.path == other.path or _succeeds(one.path, other.path)
    if one.path is not None or other.path is not None or not one.port == other.port != 0:
        return False
    hosts = {"127.0.0.1" if each.host == "localhost" else each.host for each in (one, other)}
    return len(hosts) == 1 or any(host in _EVERYWHERE for host in hosts)


def _succeeds(one: Path, other: Path) -> bool:
    """Whether a process that is started again for one file would write to the other.

    >>> _succeeds(Path("hall.mp4"), Path("hall-2.mp4")), _succeeds(Path("1.mp4"), Path("12.mp4"))
    (True, False)
    """
    if one.parent != other.parent or one.suffix != other.suffix:
        return False
    short, long = sorted((one.stem, other.stem), key=len)
    return re.fullmatch(r"-\d+", long.removeprefix(short)) is not None


def _told(claim: Claim, other: Claim) -> str:
    same = claim.path == other.path
    text = f"instance {claim.instance!r} would {claim.verb} {claim.text}"
    if same and (claim.text == other.text or claim.path is None):
        hint = _HINT if claim.verb == "write to" else "give it another"
        return f"{text}, as instance {other.instance!r} does; {hint}"
    if same:
        return f"{text}, which is {other.text} of instance {other.instance!r}; {_HINT}"
    return (
        f"{text}, and when started again one of it and instance {other.instance!r} "
        f"({other.text}) would overwrite the other's file; {_HINT}"
    )
