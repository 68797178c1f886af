"""`vmbridge library`: the fake BOINC library, for C built by the scientist's own compiler, for Python one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from guest_side import include_dir
from guest_side.build import BuildError, build_library
from guest_side.python.bundle import bundle

from ..errors import HostError, host_trouble


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cc", default="cc", show_default=True, help="The C compiler that will also compile your program.")
@click.option(
    "--headers",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="BOINC's own headers, such as /usr/include/boinc: serve programs compiled with these, too. May be repeated.",
)
@click.option("--cxx", default="c++", show_default=True, help="The C++ compiler, used with --headers only.")
def library(directory: Path, cc: str, headers: tuple[Path, ...], cxx: str) -> None:
    """Build the fake BOINC library into DIR: boinc_api.h, libboinc_api.a and libboinc_api.so; for Python, boinc.py."""
    with host_trouble(f"write to {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "boinc.py").write_text(bundle(), encoding="utf-8")
        try:
            build_library(directory, cc=cc, headers=headers, cxx=cxx)
        except BuildError as error:
            raise HostError(str(error)) from error
        shutil.copy(include_dir() / "boinc_api.h", directory)
    click.echo(f"Link with it: {cc} -static prog.c -I{directory} -L{directory} -lboinc_api -lpthread")
