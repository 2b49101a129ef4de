"""``lamin run``."""

from __future__ import annotations

import sys

import click

_PATTERN = "Files that {}: a path or a pattern such as 'out/**'; may be repeated."


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--input", "inputs", multiple=True, help=_PATTERN.format("it reads"))
@click.option("--output", "outputs", multiple=True, help=_PATTERN.format("it writes"))
@click.option("--include", multiple=True, help="Count observed files that match.")
@click.option("--exclude", multiple=True, help="Do not count observed files that match.")
@click.option("--name", help="Of the transform; default: the script's or program's.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--dry-run", is_flag=True, help="Run nothing; say which files would count, and why.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    name: str | None,
    params: tuple[str, ...],
    dry_run: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command and record what it reads and writes.

    COMMAND is any program with its arguments, after --. Its exit code is passed on.
    """
    from lamindb_plain.commands import Command, plan
    from lamindb_plain.commands import run as run_command

    for each in params:
        if "=" not in each:
            raise click.BadParameter(f"{each!r} is no NAME=VALUE", param_hint="--param")
    what = Command(command, name, inputs, outputs, include, exclude, params)
    if dry_run:
        for line in plan(what):
            click.echo(line)
        return
    sys.exit(run_command(what))
