"""`vmbridge package`: what a project ships as one version of its application."""

from __future__ import annotations

from pathlib import Path

import click

EXISTING = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("directory", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--image",
    type=EXISTING,
    metavar="DIR",
    help="The image that the job's machine starts from; for a vbox_job.xml, a disk.",
)
@click.option("--job", required=True, type=EXISTING, metavar="FILE", help="The job file; its <image> is `image`.")
@click.option(
    "--file",
    "more",
    multiple=True,
    type=EXISTING,
    metavar="FILE",
    help="Another file for all jobs, found in the slot under its own name: the science program, say. "
    "May be repeated; without it the files come with each work unit.",
)
def package(directory: Path, image: Path | None, job: Path, more: tuple[Path, ...]) -> None:
    """Write the folder OUT that a BOINC project ships as a version of its application (docs/admins.md)."""
    from ..bundle import write_bundle
    from ..bundle.write import PLATFORM

    bundle = write_bundle(directory, image=image, job=job, more=more)
    for file in bundle.files:
        role = file.open_name or ("the main program" if file.main_program else "part of the program")
        click.echo(f"{file.size:>12,}  {file.name:<45} {role}")
    python = ".".join(map(str, bundle.oldest_python))
    click.echo(f"{directory}: for {PLATFORM} with QEMU and Python {python} or newer.")
    click.echo(f"On the project's server it becomes apps/APP/VERSION/{PLATFORM}; see docs/admins.md.")
