"""The command `livesd keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lsd.pipeline.terminal import reported, say


def keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; never overwritten")],
) -> None:
    """Make the keys that links between hosts need.

    \b
    Example:
      livesd keys lsd.keys
      scp lsd.keys other-host:

    Who has the file may send frames and take them: keep it secret. All hosts of a deployment
    have the same one. Only you may read it (mode 0600).
    """
    with reported():
        from lsd.pipeline.links.endpoints import Keys

        Keys.make().save(file)
        say(f"{file}: written; copy it to every host of the deployment, and nowhere else")
