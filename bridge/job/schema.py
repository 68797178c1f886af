"""From a job file to a `Job`: the door to those who read and judge it, which are imported when there is a file to read.

The BOINC client waits for a first sign of life, and none of it is needed for that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import JobFileError
from .findings import Finding, Kind, first_error
from .model import Job, MachineTask, itself
from .names import JOB_FILE, VBOX_JOB_FILE

logger = logging.getLogger(__name__)

MAX_JOB_FILE_BYTES = 1_048_576

_WARNINGS_LOGGED = 20
"""More would fill the `stderr.txt` that a project sees."""


@dataclass(frozen=True, slots=True)
class Examined:
    """All that is to be said of a job file, by line; and the job, if none of it is an error."""

    findings: tuple[Finding, ...]
    job: Job | None = None


def read_job(directory: Path, resolve: Callable[[Path], Path] = itself) -> Job:
    """Read `directory/job.xml`, or where there is none `directory/vbox_job.xml`, as BOINC's vboxwrapper has it.

    `resolve` tells which file a path in `directory` stands for.

    :raise JobFileError: it is missing or broken, or asks for what cannot be done; the message names the file, the line
        and the element, and says what to do.
    """
    file = Path(os.path.abspath(directory)) / JOB_FILE  # so that no name in a command begins with "-" or holds "x:"
    other = file.with_name(VBOX_JOB_FILE)
    if not resolve(file).exists() and resolve(other).exists():
        file = other
    job = parse_job(file, read_text(file, resolve(file)))
    tasks = (replace(task, resolve=resolve) if isinstance(task, MachineTask) else task for task in job.tasks)
    return replace(job, tasks=tuple(tasks), resolve=resolve)


def read_text(file: Path, real: Path) -> str:
    """Return the text of a job file that is known as `file` and lies at `real`.

    :raise JobFileError: it is missing, cannot be read, or is too large for one.
    """
    if real.exists() and not real.is_file():  # opening a pipe would wait for its writer
        raise JobFileError(file, 0, "", "is no file. Put the job file in its place")
    try:
        with real.open("rb") as opened:
            data = opened.read(MAX_JOB_FILE_BYTES + 1)
    except OSError as error:
        hint = (
            "A job directory holds a job.xml; see docs/scientists.md." if isinstance(error, FileNotFoundError) else ""
        )
        which = "" if real == file else f"it stands for {real}, which "
        raise JobFileError(file, 0, "", f"{which}cannot be read: {error.strerror}. {hint}".rstrip()) from error
    return decode(file, data)


def decode(file: Path, data: bytes) -> str:
    """Return the text in the bytes of a job file.

    :raise JobFileError: they are too many for one, or no text that could be one.
    """
    if len(data) > MAX_JOB_FILE_BYTES:
        problem = f"has more than {MAX_JOB_FILE_BYTES:,} bytes; a job file is small. Is it the right file?"
        raise JobFileError(file, 0, "", problem)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00<\x00" in data[:64]:
        raise JobFileError(file, 0, "", "is UTF-16 or UTF-32. Save it as UTF-8")
    # What is no UTF-8 stays what it is, and is refused only where a guest would have to be told of it.
    return data.decode("utf-8", "surrogateescape")


def parse_job(file: Path, text: str) -> Job:
    """Read a job from the text of its file; `file` says where it lies. What is no error is logged.

    :raise JobFileError: as `read_job`; of several errors it is the first.
    """
    examined = examine_job(file, text)
    warnings = [finding for finding in examined.findings if finding.kind is not Kind.ERROR]
    for finding in warnings[:_WARNINGS_LOGGED]:
        logger.warning("%s", finding.error(file))
    if len(warnings) > _WARNINGS_LOGGED:
        logger.warning("%s: %d more of the kind", file, len(warnings) - _WARNINGS_LOGGED)
    if examined.job is None:
        error = first_error(examined.findings)
        assert error is not None
        raise error.error(file)
    return examined.job


def examine_job(file: Path, text: str) -> Examined:
    """Read a job and say all that is to be said of its file. Pure."""
    from .reader import examine

    job, findings = examine(file, text)
    return Examined(findings, job)
