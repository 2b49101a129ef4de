"""Writes the generated pages of this folder: ``python dev.py docs``."""

from __future__ import annotations

from pathlib import Path

import click

from lamindb.cli import COMMANDS, main

DOCS = Path(__file__).parent
WIDTH = 80
INTRO = """\
# Command line

`lamin`, or `python -m lamindb`. This page is written by `python dev.py docs` from what each command
says of itself with `--help`.
"""


def pages() -> dict[Path, str]:
    """Return the content of each generated page."""
    return {DOCS / "cli.md": cli_page()}


def cli_page() -> str:
    root = click.Context(
        main,
        info_name="lamin",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **main.context_settings,
    )
    parts = [INTRO, section(main, root)]
    for name in COMMANDS:
        command = main.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root)
        parts.append(section(command, context))
        if isinstance(command, click.Group):
            for inner_name, inner in command.commands.items():
                parts.append(
                    section(inner, click.Context(inner, info_name=inner_name, parent=context))
                )
    return "\n".join(parts)


def section(command: click.Command, context: click.Context) -> str:
    return f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content, encoding="utf-8")
