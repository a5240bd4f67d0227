"""Commands that come from elsewhere: the entry points of the group `lsd.commands`.

Each names a function that typer can read: its name in the group is the
command's, its docstring the help, that one's first line the short help; or a
`typer.Typer`, whose commands become those of a group. The modules are imported
for `livesd --help` too, and so must be light: what is heavy is imported in the
function.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from lsd.pipeline.terminal import EXIT_USAGE, say

GROUP = "lsd.commands"


class Commands(TyperGroup):
    """The commands of `livesd`: our own, and those that are found when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        self._find()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Looking for entry points takes some 20 ms, which no command of ours is to pay.
        if cmd_name not in self.commands:
            self._find()
        return super().get_command(ctx, cmd_name)

    def _find(self) -> None:
        for point in entry_points(group=GROUP):
            if point.name not in self.commands:
                self.commands[point.name] = _command(point)


def _command(point: EntryPoint) -> Any:
    """Make the command that an entry point names, or one that says why there is none."""
    try:
        function = point.load()
        if isinstance(function, typer.Typer):
            group = typer.main.get_group(function)
            group.name, about = point.name, (group.help or "").partition("\n")[0]
            group.short_help = about.removesuffix(".")
            return group
        about = (function.__doc__ or "").strip().partition("\n")[0]
        return _made(point.name, function, short_help=about.removesuffix("."))
    except Exception as error:  # another package's code, and one that is broken
        why = f"{type(error).__name__}: {error}"
        return _broken(point, why.splitlines()[0])


def _broken(point: EntryPoint, why: str) -> Any:
    owner = f"the package {point.dist.name}" if point.dist else "the package that it comes from"

    def refuse(context: typer.Context) -> None:
        say(
            f"livesd {point.name}: {point.value} cannot be loaded ({why}); reinstall or remove "
            f"{owner}"
        )
        raise typer.Exit(EXIT_USAGE)

    anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    return _made(
        point.name, refuse, short_help=f"(cannot be loaded: {why})", context_settings=anything
    )


def _made(name: str, function: Callable[..., Any], **settings: Any) -> Any:
    single = typer.Typer(rich_markup_mode=None, add_completion=False)
    single.command(name, **settings)(function)
    return typer.main.get_command(single)
