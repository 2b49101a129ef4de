"""``lamin``: one module a group of commands, imported when one of them is called.

The short help of each command stands here, so that ``lamin --help`` imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from lamindb._version import __version__
from lamindb.errors import LaminError

# name → module and function, short help
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("instances:init", "Make an instance, or load the one that is there."),
    "load": ("instances:load", "Use an instance from now on."),
    "info": ("instances:info", "Show the instance in use."),
    "close": ("instances:close", "Use no instance from now on."),
    "delete": ("instances:delete", "Delete an instance's records, never its data."),
    "files": ("records:files", "List files, the newest first."),
    "runs": ("records:runs", "List runs, the newest first."),
    "transforms": ("records:transforms", "List what has been run."),
    "show": ("show:show", "Show a file, run or transform, and where it comes from."),
    "doctor": ("maintenance:doctor", "Compare the records with what is there."),
    "db": ("maintenance:db", "Look after the database."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            self._add_plugin_commands()
            return super().get_command(ctx, cmd_name)
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"lamindb.cli.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._add_plugin_commands()
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, short) for name, (_, short) in COMMANDS.items()]
                + [(name, each.get_short_help_str()) for name, each in self.commands.items()]
            )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LaminError as error:
            raise click.ClickException(str(error)) from error

    def _add_plugin_commands(self) -> None:
        from lamindb.hooks import manager

        if not self.commands:
            manager.every("ln_cli", group=self)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command that reads takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage.",
)
@click.version_option(__version__, prog_name="lamin")
def main() -> None:
    """Which run made this file, from what, with which code?"""
