"""`vmbridge check DIR` and `vmbridge status DATA_DIR`: what lies in a slot, and in all slots of a client."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..life.accounting import estimated_fpops
from ..slots import Look, look
from .terminal import printable


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def check(directory: Path) -> None:
    """Judge what lies in DIR, a slot or a job directory: leavings, checkpoints, the machine's disk.

    Touches nothing. Exits with 1 if something is not as it should be.
    """
    found = look(directory)
    click.echo(printable(line(found)))
    for problem in found.problems:
        click.echo(f"  {printable(problem)}")
    sys.exit(1 if found.problems else 0)


@click.command()
@click.argument("directory", metavar="DATA_DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def status(directory: Path) -> None:
    """Show all slots of the BOINC client whose data lies in DATA_DIR."""
    slots = directory / "slots"
    if not slots.is_dir():
        raise click.ClickException(f"{slots} does not exist: {directory} is not the data directory of a BOINC client")
    for slot in sorted((path for path in slots.iterdir() if path.is_dir()), key=lambda path: (len(path.name), path)):
        found = look(slot)
        click.echo(printable(f"{slot.name}: {line(found)}"))
        for problem in found.problems:
            click.echo(f"  {printable(problem)}")


def line(found: Look) -> str:
    """Say in a line how a slot is."""
    words = [found.job or found.directory.name]
    words.append("running" if found.running else found.ended or "not running")
    if found.tasks_done:
        words.append("1 task done" if found.tasks_done == 1 else f"{found.tasks_done} tasks done")
    if found.checkpoints:
        words.append(f"goes on from {found.checkpoints[0]}")
    if found.progress is not None:
        if found.progress.fraction_done is not None:
            words.append(f"{found.progress.fraction_done:.1%} done")
        guest = found.progress.guest_cpu_seconds
        in_guest = "" if guest is None else f" ({guest:.0f} s in the guest)"
        words.append(f"{found.progress.cpu_seconds:.0f} s of CPU time{in_guest}")
        if found.progress.fpops is not None:
            words.append(f"{found.progress.fpops:.4g} floating-point operations")
        if (estimated := estimated_fpops(found.progress, found.p_fpops)) is not None:
            words.append(f"at most {estimated:.2g} floating-point operations (estimated)")
    return ", ".join(words)
