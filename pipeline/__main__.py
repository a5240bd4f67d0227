"""Where `livesd` begins, and `python -m lsd.pipeline`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command; the entry point of `livesd`.

    Until a run listens to Ctrl-C itself there is nothing to finish, and the
    traceback of a half-done import helps nobody.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from lsd.pipeline.cli import app

    app(prog_name="livesd")


if __name__ == "__main__":
    main()
