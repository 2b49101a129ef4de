"""``lamin``: one module a group of commands, imported when one of them is called.

The short help of each command stands here, so that ``lamin --help`` imports none of them.
"""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    "lineage": ("lineage:lineage", "Show where a file or run comes from, or what came of it."),
    "why": ("questions:why", "Say why a file differs from its previous version."),
    "stale": (
        "questions:stale",
        "List what is out of date, in the order in which to make it anew.",
    ),
    "diff": ("questions:diff", "Show what differs between two runs."),
    "export": ("export:export", "Write records in the formats of others."),
    "serve": (
        "serve:serve",
        "Show the records in the browser, on this machine, until interrupted.",
    ),
    "doctor": ("maintenance:doctor", "Compare the records with what is there."),
    "migrate": ("moving:migrate", "Copy the instance to another database and storage."),
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

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(ctx)

    def _add_plugin_commands(self) -> None:
        with _in_one_line():
            from lamindb.hooks import manager

            if not self.commands:
                manager.every("ln_cli", group=self)
        for name in COMMANDS:
            self.commands.pop(name, None)  # the names of ours are taken


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn whatever a command raises into one line on stderr, and exit code 1."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, EOFError):
        raise
    except LaminError as error:
        raise click.ClickException(_line(error)) from error
    except UnicodeEncodeError as error:
        raise click.ClickException(
            f"{_line(ValueError(repr(error.object)))} is not valid Unicode, and nothing that is "
            "recorded has such a name: check the arguments"
        ) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader of a pipe has seen enough
        raise click.ClickException(_line(error)) from error
    except ImportError as error:
        raise click.ClickException(
            f"{_line(error)}: a package that this needs is not installed (lamindb-workflows has "
            "the extras s3, postgres and notebook)"
        ) from error
    except Exception as error:  # a command's, or a plugin's, own fault
        from lamindb.config import settings

        if settings.tracebacks:
            raise
        raise click.ClickException(
            f"{type(error).__name__}: {_line(error)} (a fault of this program or of a plugin: "
            "LAMINDB_TRACEBACK=1 shows where it is)"
        ) from error


def _line(error: Exception) -> str:
    from lamindb.cli.output import printable

    return printable(" ".join(str(error).split()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command that reads takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage.",
)
@click.version_option(__version__, prog_name="lamin")
def main() -> None:
    """Which run made this file, from what, with which code?"""
