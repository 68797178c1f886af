"""`vmbridge run DIR`: one job from its job file to its results, with a progress bar."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click

from ..hypervisors import HYPERVISORS, is_third_party
from ..job import read_job
from ..life.decide import End
from ..life.forwarding import Nobody
from ..life.patience import BOOT
from ..run import Ended, run_job
from .terminal import Terminal, printable

EXIT = {End.SUCCESS: 0, End.INTERRUPTED: 130}
"""Exit codes; every other end is 1."""


def _known(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Take one of ours; or another package's, which are asked for only when it is none of ours."""
    if name is None or name in HYPERVISORS or is_third_party(name):
        return name
    raise click.BadParameter(f"{name!r} is not one of {', '.join(map(repr, HYPERVISORS))}, nor installed")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--hypervisor",
    metavar=f"[{'|'.join(HYPERVISORS)}|...]",
    callback=_known,
    help="What runs the machine; else the job file says, else what is installed is used. Another package's has its own "
    "name. "
    "local runs the program on this host, without isolation; plain starts nothing and lets you play the guest.",
)
@click.option(
    "--boot-timeout",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="How long the guest may take to come up, on the clock and of its machine's CPU time.  "
    f"[default: {BOOT.clock_s:.0f} and {BOOT.cpu_s:.0f}]",
)
def run(directory: Path, hypervisor: str | None, boot_timeout: float | None) -> None:
    """Run the job in DIR, whose job.xml says what is to be run in which image."""
    job = read_job(directory)
    begun = time.monotonic()
    with Terminal(job) as terminal:
        project = Nobody(terminal.say)
        ended = asyncio.run(run_job(job, terminal, hypervisor=hypervisor, boot_s=boot_timeout, project=project))
    report(ended, time.monotonic() - begun)
    sys.exit(EXIT.get(ended.outcome.end, 1))


def report(ended: Ended, wall_s: float) -> None:
    """Print how a job ended: on success where its results lie and what it took, else why."""
    outcome, progress = ended.outcome, ended.progress
    if outcome.end is not End.SUCCESS:
        click.echo(f"vmbridge: {printable(outcome.message)}", err=True)
        if outcome.details:
            click.echo("The last that was printed there:\n" + outcome.details, err=True)
        return
    rows = [("result", printable(str(path))) for path in ended.results]
    rows.append(("wall time", f"{wall_s:.1f} s"))
    rows.append(("CPU time", f"{progress.cpu_seconds:.1f} s on the host" + _seconds(progress.guest_cpu_seconds)))
    if progress.fpops is not None or progress.intops is not None:
        rows.append(("operations", f"{progress.fpops or 0:.4g} floating-point, {progress.intops or 0:.4g} integer"))
    rows.append(("checkpoints", str(progress.checkpoints)))
    for name, value in rows:
        click.echo(f"{name + ':':<13}{value}")


def _seconds(in_guest: float | None) -> str:
    return "" if in_guest is None else f", {in_guest:.1f} s of the program in the guest"
