"""rtsp://, rtmp://, http:// and others: pictures from the network."""

from __future__ import annotations

import av

from lsd.pipeline.errors import SourceError
from lsd.pipeline.stage import Context
from lsd.stages.sources.decoder import Decoder
from lsd.stages.sources.reconnecting import Reconnecting
from lsd.stages.uri import Uri

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp")
OPEN_TIMEOUT_S = 10.0
# A stream that is silent for so long is taken for lost.
READ_TIMEOUT_S = 5.0


def open_source(uri: Uri, context: Context, loop: bool) -> Reconnecting:
    """Connect to a stream; a stream of known length ends, any other is reconnected.

    Raises:
        SourceError: the first connection failed.
    """
    return Reconnecting(lambda: _connect(uri), uri.text, context)


def _connect(uri: Uri) -> Decoder:
    # Not fflags=nobuffer: it throws away what was read to recognise the stream,
    # and with it the key frame; the next one may be 10 s off.
    options = {"flags": "low_delay"}
    if uri.scheme.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses packets, and most firewalls stop it
    timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        container = av.open(uri.text, options=options, timeout=timeout)
    except av.ExitError as error:
        raise SourceError(f"{uri.text}: no answer within {OPEN_TIMEOUT_S:g} s") from error
    except av.InvalidDataError as error:
        raise SourceError(f"{uri.text}: the answer is not a video stream") from error
    except (OSError, av.FFmpegError) as error:
        raise SourceError(
            f"{uri.text}: cannot connect ({error.strerror or error}); is the server running "
            "and the address right?"
        ) from error
    return Decoder(container, uri.text, live=True)
