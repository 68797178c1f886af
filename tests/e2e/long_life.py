"""A program (`whole_life.c`) that lives until it is told to end, and what is seen of its life.

It cannot end before the word, so no test depends on who is faster.
"""

from __future__ import annotations

import re
from pathlib import Path

from .conftest import Rig
from .machines import Science, compile_program, fraction_done, nothing_is_left, trickled_up
from .project import Job

OUTPUTS = ("out.txt", "early.txt")

WORD = "the word"
WAITS_AT = 0.9
"""At this fraction the program waits for the word."""

HALF = {"cpu_usage_limit": 50}
"""The volunteer's preference by which a client suspends and resumes its jobs every second."""


def long_lived(folder: Path) -> Science:
    """Build the program as a scientist does."""
    return Science(compile_program("whole_life.c", folder), OUTPUTS)


def taken(text: str) -> list[int]:
    """Return the numbers of the checkpoints that were taken, from a `stderr.txt`."""
    return [int(number) for number in re.findall(r"checkpoint checkpoint-(\d+) taken", text)]


def restored(text: str) -> list[tuple[int, float]]:
    """Return the numbers of those that were restored, and the fraction that was done by then."""
    found = re.findall(r"restored from checkpoint-(\d+), ([\d.]+)% done", text)
    return [(int(number), float(percent) / 100) for number, percent in found]


def goes_on(rig: Rig, job: Job, beyond: float) -> None:
    """Wait until the client knows of more than this fraction, or all that there can be before the word."""

    def gone_on() -> bool:
        return fraction_done(rig.client, job) >= min(beyond + 2e-3, WAITS_AT)

    rig.client.wait(gone_on, f"{job.name} goes on beyond {beyond:.1%}")


def is_right(rig: Rig, job: Job, science: Science, folder: Path) -> str:
    """Wait for the end, and see that all is as if nothing had happened; return the job's `stderr.txt`."""
    report = rig.reported(job)
    assert report.exit_status == 0, report.stderr
    assert rig.output(job, "out.txt") == science.expected(job, folder)
    assert rig.output(job, "early.txt") == (folder / "early.txt").read_bytes()
    rig.urged(lambda: len(trickled_up(rig, job)) >= 2, "the last trickle has come up")
    assert trickled_up(rig, job) == [f"<variety>test</variety>\n{text}" for text in ("a quarter", f"heard {WORD}")]
    assert rig.server.events("upload").count(job.output_file("early.txt")) == 1
    nothing_is_left(rig.client)
    return report.stderr
