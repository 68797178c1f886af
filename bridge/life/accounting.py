"""What the guest and the host count, as one progress report. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace

from protocol.messages import Checkpoint, CreditReport, FractionDone, Message


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time over all starts of a job, in seconds: `host_s` the machine's, `guest_s` the program's in the guest; and
    `run_s`, how long the machine has run, which makes no two of them different.
    """

    host_s: float = 0.0
    guest_s: float = 0.0
    run_s: float = field(default=0.0, compare=False)

    def at_least(self, other: Spent) -> Spent:
        """Return the larger of each."""
        most = (max(ours, theirs) for ours, theirs in zip(astuple(self), astuple(other), strict=True))
        return Spent(*most)


UNSPENT = Spent()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    `fraction_done` is 0 to 1, or None while the program has not said. `cpu_seconds` is the machine's CPU time on the
    host, over all its starts, also what was spent after the checkpoint that it was restored from;
    `checkpoint_cpu_seconds` what it was at the last checkpoint, the machine's or the program's, None before the first.
    `guest_cpu_seconds` is the program's inside the guest, likewise over all starts, None while no guest has said;
    `checkpoint_guest_cpu_seconds` what it was at that checkpoint, `guest_cpu_before` what of it the present guest does
    not know of. `fpops` and `intops` are operations so far, `checkpoints` the program's own. `run_seconds` is how long
    the machine has run, since the job began, without what was lost since a checkpoint; it goes on by itself, so that it
    makes no two reports different.
    """

    fraction_done: float | None = None
    cpu_seconds: float = 0.0
    guest_cpu_seconds: float | None = None
    fpops: float | None = None
    intops: float | None = None
    checkpoints: int = 0
    checkpoint_cpu_seconds: float | None = None
    guest_cpu_before: float = 0.0
    checkpoint_guest_cpu_seconds: float | None = None
    run_seconds: float = field(default=0.0, compare=False)

    @property
    def spent(self) -> Spent:
        """What it has taken so far."""
        return Spent(self.cpu_seconds, self.guest_cpu_seconds or 0.0, self.run_seconds)


def account(progress: Progress, message: Message) -> Progress:
    """Return `progress` with what the guest has just said; messages that report nothing leave it as it is."""
    match message:
        case FractionDone(value):
            return replace(progress, fraction_done=value)
        case CreditReport(fpops, intops, cpu_seconds):
            return replace(
                progress if cpu_seconds is None else _counted(progress, cpu_seconds),
                fpops=progress.fpops if fpops is None else fpops,
                intops=progress.intops if intops is None else intops,
            )
        case Checkpoint(count):
            return replace(progress, checkpoints=count)
    return progress


def _counted(progress: Progress, counted: float) -> Progress:
    """Return the progress of a job whose guest has counted so many seconds."""
    before, known = progress.guest_cpu_before, progress.guest_cpu_seconds or 0.0
    if before + counted < known:  # a program that began anew, in the same machine
        before = known
    return replace(progress, guest_cpu_before=before, guest_cpu_seconds=before + counted)


def begun_anew(spent: Spent) -> Progress:
    """Return the progress of a job that begins with its machine, after so much was spent in vain."""
    return Progress(cpu_seconds=spent.host_s, guest_cpu_seconds=spent.guest_s or None, guest_cpu_before=spent.guest_s)


def gone_back(saved: Progress, spent: Spent) -> Progress:
    """Return the progress of a job whose machine goes on from where it was at `saved`, after so much was spent.

    The guest's own count goes back with its memory; what it does not know of any more was spent all the same.
    """
    lost = spent.guest_s - (saved.guest_cpu_seconds or 0.0)
    return replace(
        saved,
        cpu_seconds=spent.host_s,
        guest_cpu_seconds=spent.guest_s or None,
        guest_cpu_before=saved.guest_cpu_before + lost,
    )


def begun_from(saved: Progress, spent: Spent) -> Progress:
    """Return the progress of a job whose program begins, in a new machine, with what it had saved itself at `saved`."""
    return replace(gone_back(saved, spent), guest_cpu_before=spent.guest_s)


def at_checkpoint(progress: Progress) -> Progress:
    """Return the progress that is recorded with a checkpoint of this moment."""
    return replace(
        progress,
        checkpoint_cpu_seconds=progress.cpu_seconds,
        checkpoint_guest_cpu_seconds=progress.guest_cpu_seconds,
    )


def safe_at(progress: Progress, at: Progress) -> Progress:
    """Return `progress` with what it was at its newest checkpoint, now that the one taken at `at` is safe."""
    host_s = max(progress.checkpoint_cpu_seconds or 0.0, at.checkpoint_cpu_seconds or 0.0)
    guest_s = max(progress.checkpoint_guest_cpu_seconds or 0.0, at.checkpoint_guest_cpu_seconds or 0.0)
    return replace(progress, checkpoint_cpu_seconds=host_s, checkpoint_guest_cpu_seconds=guest_s)


def at_end(progress: Progress) -> Progress:
    """Return the progress of a job at whose task's end it is: what has been done is safe."""
    return safe_at(progress, at_checkpoint(progress))


def together(before: Progress, now: Progress, done: float, weight: float) -> Progress:
    """Return the progress of a job from what it was before its present task, and from this task's own, `now`.

    `done` is the share of the job that the tasks before it are, `weight` that of this one; all shares are 1. The CPU
    times of `now` are the whole job's already.
    """
    fraction = now.fraction_done
    return replace(
        now,
        checkpoint_cpu_seconds=_latest(before.checkpoint_cpu_seconds, now.checkpoint_cpu_seconds),
        checkpoint_guest_cpu_seconds=_latest(before.checkpoint_guest_cpu_seconds, now.checkpoint_guest_cpu_seconds),
        fraction_done=None if fraction is None and not done else min(1.0, done + weight * (fraction or 0.0)),
        fpops=_sum(before.fpops, now.fpops),
        intops=_sum(before.intops, now.intops),
        checkpoints=before.checkpoints + now.checkpoints,
        run_seconds=before.run_seconds + now.run_seconds,
    )


def _latest(before: float | None, now: float | None) -> float | None:
    return now if before is None else max(before, now or 0.0)


def _sum(before: float | None, now: float | None) -> float | None:
    return now if before is None else before + (now or 0.0)


def shares(weights: Sequence[float]) -> list[float]:
    """Return each weight's share of all; what makes no sense (negative, infinite, all nothing) weighs like the others.

    The weights are a job file's (BOINC's wrapper: 1 where nobody says).
    """
    sane = [weight if 0.0 <= weight < math.inf else 1.0 for weight in weights]
    if not 0.0 < (total := sum(sane)) < math.inf:
        sane, total = [1.0] * len(sane), float(len(sane))
    return [weight / total for weight in sane]


def estimated_fpops(progress: Progress, p_fpops: float) -> float | None:
    """Return how many floating-point operations the processor could have done; None if the guest counts them itself.

    `p_fpops` is how many the host's benchmark does in a second, 0 if nobody knows. An emulated program has done far
    fewer.
    """
    if progress.fpops is not None or p_fpops <= 0:
        return None
    return progress.cpu_seconds * p_fpops
