"""Writes the generated pages of this folder: ``python dev.py docs``."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import FunctionType

import click

from lamindb.cli import COMMANDS, main
from lamindb.hooks import specs
from lamindb.hooks.events import KINDS

DOCS = Path(__file__).parent
WIDTH = 80
GENERATED = "<!-- from here on written by `python dev.py docs` -->"
INTRO = """\
# Command line

`lamin`, or `python -m lamindb`. This page is written by `python dev.py docs` from what each command
says of itself with `--help`.
"""


def pages() -> dict[Path, str]:
    """Return the content of each generated page."""
    return {DOCS / "cli.md": cli_page(), DOCS / "plugins.md": plugins_page()}


def plugins_page() -> str:
    """The page's own text, then every hook."""
    page = DOCS / "plugins.md"
    text = page.read_text(encoding="utf-8").partition(GENERATED)[0]
    return "\n".join([f"{text}{GENERATED}\n", *map(hook_section, hooks()), *event_sections()])


def hooks() -> list[FunctionType]:
    return [each for name, each in vars(specs).items() if name.startswith("ln_")]


def hook_section(hook: FunctionType) -> str:
    mark = getattr(hook, f"{specs.PROJECT}_spec")
    mode = "asked until one answers" if mark["firstresult"] else "all are called"
    text = inspect.cleandoc(hook.__doc__ or "")
    signature = str(inspect.signature(hook)).replace("'", "")
    return f"### `{hook.__name__}{signature}`\n\n*{mode}* · {text}\n"


def event_sections() -> list[str]:
    parts = ["## Events\n\nAll have `at`, UTC, and an `event_id`.\n"]
    for kind in KINDS.values():
        own = [each for each in fields(kind) if each.name not in ("at", "event_id")]
        rows = "\n".join(f"{each.name}: {each.type}{default(each)}" for each in own)
        text = inspect.cleandoc(kind.__doc__ or "")
        parts.append(f"### `{kind.__name__}`\n\n{text}\n\n```text\n{rows}\n```\n")
    return parts


def default(field: Field[object]) -> str:
    return "" if field.default is MISSING else f" = {field.default!r}"


def cli_page() -> str:
    root = click.Context(
        main,
        info_name="lamin",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **main.context_settings,
    )
    parts = [INTRO, section(main, root)]
    for name in [*COMMANDS, *(each for each in main.commands if each not in COMMANDS)]:
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
