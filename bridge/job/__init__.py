"""The job file: what is to be run, as the project wrote it.

tags      its form: elements and their lines
values    the kinds of text that elements have
patterns  one of them: regular expressions
table     what an element may hold, and how it is read and judged
elements  all elements of <job_desc>, in tables
findings  what is wrong or odd in a file
schema    from a file to a job
model     what a job is to the rest of the bridge
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .model import CHECKPOINT_PERIOD_S, HostTask, Job, MachineTask, ZipOutput, itself

__all__ = ["CHECKPOINT_PERIOD_S", "HostTask", "Job", "MachineTask", "ZipOutput", "read_job"]


def read_job(directory: Path, resolve: Callable[[Path], Path] = itself) -> Job:
    """Read the job file of `directory`, as `schema.read_job` does.

    Imported only now: the client waits for a first status, and what reads and judges files is not needed for it.

    :raise JobFileError: it is missing or broken, or asks for what cannot be done.
    """
    from .schema import read_job

    return read_job(directory, resolve)
