"""Asks a run for its metrics, from outside."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

from lsd.pipeline.errors import ConfigError, SourceError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 9464
_PATIENCE_S = 5.0

Key = tuple[str, frozenset[tuple[str, str]]]


class NobodyThereError(SourceError):
    """Nobody listens at the address."""


class NoAnswerError(SourceError):
    """Somebody listens there, and does not answer in time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A run's metrics at one moment.

    Attributes:
        at_s: when they were read, monotonic.
        samples: name and labels -> value.
    """

    at_s: float
    samples: Mapping[Key, float]

    def value(self, name: str, **labels: str) -> float | None:
        """Return one value; None: there is none of that name and those labels."""
        return self.samples.get((name, frozenset(labels.items())))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return what a family has that only `label` tells apart, in its own order."""
        return {
            dict(labels)[label]: value
            for (found, labels), value in self.samples.items()
            if found == name and [key for key, _ in labels] == [label]
        }

    def labels(self, name: str) -> dict[str, str]:
        """Return the labels of a family that has one sample, such as the build's; {}: none."""
        found = (dict(labels) for (key, labels) in self.samples if key == name)
        return next(found, {})


def address_of(text: str | None) -> str:
    """Return the URL that a user means.

    >>> address_of(None), address_of("9500"), address_of("camera.local:80")
    ('http://127.0.0.1:9464/metrics', 'http://127.0.0.1:9500/metrics', 'http://camera.local:80/metrics')

    Raises:
        ConfigError: it is no address.
    """
    text = text or str(DEFAULT_PORT)
    full = f"{DEFAULT_HOST}:{text}" if text.isdecimal() else text
    full = full if "://" in full else f"http://{full}"
    try:
        parts = urlsplit(full)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(
            f"{text}: expected a port, HOST:PORT or a URL, such as 9464 or http://studio:9464"
        )
    if parts.port is None and parts.scheme == "http":
        full = full.replace(parts.netloc, f"{parts.netloc}:{DEFAULT_PORT}", 1)
    return full if parts.path.strip("/") else f"{full.rstrip('/')}/metrics"


def read_metrics(url: str) -> Reading:
    """Ask once.

    Raises:
        NobodyThereError: nobody listens there.
        NoAnswerError: it takes too long.
        SourceError: what answers is no run of livesd.
    """
    text = _get(url)
    try:
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    except ValueError as error:
        raise _stranger(url) from error
    reading = Reading(time.monotonic(), samples)
    if not reading.labels("livesd_build_info"):
        raise _stranger(url)
    return reading


def read_health(url: str) -> str:
    """Return what /healthz beside these metrics says; "" where it says nothing."""
    try:
        return _get(f"{url.rpartition('/')[0]}/healthz").strip()
    except SourceError:
        return ""


def _get(url: str) -> str:
    # No proxy: what is asked is on this machine or beside it.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PATIENCE_S) as answer:
            return str(answer.read().decode(errors="replace"))
    except HTTPError as error:
        if error.code == 503:  # the answer of a run that is not well
            return error.read().decode(errors="replace")
        raise _stranger(url) from error
    except TimeoutError as error:
        raise NoAnswerError(f"{url}: no answer within {_PATIENCE_S:g} s") from error
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise NoAnswerError(f"{url}: no answer within {_PATIENCE_S:g} s") from error
        raise _nobody(url, str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _nobody(url, f"{type(error).__name__}: {error}") from error


def _nobody(url: str, why: str) -> NobodyThereError:
    port = urlsplit(url).port
    return NobodyThereError(
        f"{url}: no run answers there ({why}); start one with `livesd run CONFIG --metrics-port "
        f"{port}`, or with `metrics: {{port: {port}}}` in its YAML"
    )


def _stranger(url: str) -> SourceError:
    return SourceError(
        f"{url}: what answers there is no run of livesd; say the port that its `--metrics-port` "
        "or `metrics:` names, as in `livesd top 9464`"
    )
