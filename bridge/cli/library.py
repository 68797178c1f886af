"""`vmbridge library`: the fake BOINC library, built by the scientist's own compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from guest_side import include_dir
from guest_side.build import BuildError, build_library

from ..errors import HostError, host_trouble


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cc", default="cc", show_default=True, help="The C compiler that will also compile your program.")
def library(directory: Path, cc: str) -> None:
    """Build the fake BOINC library into DIR: boinc_api.h, libboinc_api.a and libboinc_api.so."""
    with host_trouble(f"write to {directory}"):
        try:
            build_library(directory, cc=cc)
        except BuildError as error:
            raise HostError(str(error)) from error
        shutil.copy(include_dir() / "boinc_api.h", directory)
    click.echo(f"Link with it: {cc} -static prog.c -I{directory} -L{directory} -lboinc_api -lpthread")
