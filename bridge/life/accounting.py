"""What the guest and the host count, as one progress report. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocol.messages import Checkpoint, CreditReport, FractionDone, Message


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    `fraction_done` is 0 to 1, or None while the program has not said. `cpu_seconds` is the machine's CPU time on the
    host, over all its starts, also what was spent after the checkpoint that it was restored from;
    `checkpoint_cpu_seconds` what it was at the last checkpoint of the machine, None before the first.
    `guest_cpu_seconds` is the program's inside the guest. `fpops` and `intops` are operations so far, `checkpoints` the
    program's own. `run_seconds` is how long the machine has run, since the job began, without what was lost since a
    checkpoint; it goes on by itself, so that it makes no two reports different.
    """

    fraction_done: float | None = None
    cpu_seconds: float = 0.0
    guest_cpu_seconds: float | None = None
    fpops: float | None = None
    intops: float | None = None
    checkpoints: int = 0
    checkpoint_cpu_seconds: float | None = None
    run_seconds: float = field(default=0.0, compare=False)


def account(progress: Progress, message: Message) -> Progress:
    """Return `progress` with what the guest has just said; messages that report nothing leave it as it is."""
    match message:
        case FractionDone(value):
            return replace(progress, fraction_done=value)
        case CreditReport(fpops, intops, cpu_seconds):
            return replace(
                progress,
                fpops=progress.fpops if fpops is None else fpops,
                intops=progress.intops if intops is None else intops,
                guest_cpu_seconds=progress.guest_cpu_seconds if cpu_seconds is None else cpu_seconds,
            )
        case Checkpoint(count):
            return replace(progress, checkpoints=count)
    return progress
