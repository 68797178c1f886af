"""`vmbridge image`: build guest images."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def image() -> None:
    """Build guest images."""


@image.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def build(directory: Path) -> None:
    """Build the tiny image into DIR: a kernel and a minimal system from Debian packages, for static programs."""
    from ..image.build import build_image

    built = build_image(directory, progress=click.echo)
    click.echo(f"{directory}: an image for {built.arch}. Name it in a job file: <image>{directory.resolve()}</image>")
