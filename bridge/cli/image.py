"""`vmbridge image`: build guest images, and try them."""

from __future__ import annotations

from pathlib import Path

import click

from guest_side import ARCHITECTURES

from ..errors import NotInstalled
from ..image import DISK_FORMATS

EXISTING = click.Path(exists=True, path_type=Path)


@click.group()
def image() -> None:
    """Build guest images, and try them."""


@image.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--arch",
    type=click.Choice(ARCHITECTURES),
    default=ARCHITECTURES[0],
    metavar="ARCH",
    help=f"The guest's processor: {', '.join(ARCHITECTURES)}.  [default: {ARCHITECTURES[0]}]",
)
@click.option("--packages", multiple=True, metavar="NAMES", help="Debian packages in it: python3,gfortran")
@click.option("--files", type=EXISTING, metavar="DIR", help="A folder whose content is laid over the root folder.")
@click.option(
    "--first-boot", type=EXISTING, metavar="SCRIPT", help="What each machine runs, once, before its first task."
)
@click.option(
    "--format",
    "disk_format",
    type=click.Choice(DISK_FORMATS),
    metavar="FORMAT",
    help=f"The disk's: {', '.join(DISK_FORMATS)}.  [default: qcow2]",
)
@click.option("--boot-cd", is_flag=True, help="Also a CD, for hypervisors that start no kernel directly; a VMDK disk.")
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Where the packages come from, instead of Debian's servers: a URL, or a line as in sources.list.",
)
def build(
    directory: Path,
    arch: str,
    packages: tuple[str, ...],
    files: Path | None,
    first_boot: Path | None,
    disk_format: str | None,
    boot_cd: bool,
    mirrors: tuple[str, ...],
) -> None:
    """Build an image into DIR.

    Without options, or with --arch or --boot-cd alone, it is the tiny one: a kernel and a minimal system from Debian
    packages, for static programs. With any other it is a Debian 12 system with these packages, for x86_64, which is
    then tried.
    """
    if boot_cd and disk_format not in (None, "vmdk"):
        raise click.UsageError("With --boot-cd the disk is a VMDK. Leave out --format")
    from ..image.build import build_image
    from ..image.system import System, joined

    system = None
    if packages or files or first_boot or disk_format or mirrors:
        system = System(joined(packages), files, first_boot, mirrors, disk_format or "qcow2")
    built = build_image(directory, progress=click.echo, system=system, arch=arch, boot_cd=boot_cd)
    click.echo(f"{directory}: an image for {built.arch}. Name it in a job file: <image>{directory.resolve()}</image>")
    if system is not None:
        _try(directory)


@image.command(name="try")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, path_type=Path))
def try_(directory: Path) -> None:
    """Start a machine from the image in DIR, and say how long it takes until its guest is ready."""
    _try(directory)


def _try(directory: Path) -> None:
    from ..image.trial import try_image

    try:
        trial = try_image(directory)
    except NotInstalled as error:
        click.echo(f"{directory}: not tried: {error}", err=True)
    else:
        click.echo(f"{directory}: ready after {trial.seconds:.1f} s on {trial.hypervisor}")
