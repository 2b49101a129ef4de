"""``lamin serve``: the web app."""

from __future__ import annotations

import click

_PORT = 8765


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PORT,
    show_default=True,
    help="Port on 127.0.0.1; 0 is any that is free.",
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
def serve(port: int, opens: bool) -> None:
    """Show the records in the browser, on this machine, until interrupted.

    Read only, and reachable from this machine alone.
    """
    try:
        from lamindb.web.app import serve as run
    except ImportError as error:
        from lamindb.errors import PackageMissingError

        raise PackageMissingError(
            f"the web app needs a package that is not installed ({error.name}): "
            "pip install 'lamindb-workflows[serve]'"
        ) from error
    from lamindb import instance

    name = instance.current().name

    def say(url: str) -> None:
        click.echo(f"{name}: {url} (Ctrl-C ends it)")
        if opens:
            click.launch(url)

    try:
        run(port, opened=say)
    except OSError as error:
        raise click.ClickException(
            f"port {port} on 127.0.0.1 cannot be had ({error.strerror}): take another by --port"
        ) from error
