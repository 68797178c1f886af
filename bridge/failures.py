"""The record in a slot of how many machines have failed there since the job last came further.

What makes a machine fail may pass: a host without memory, a guest that hung. So the job is tried again, from its last
checkpoint; but one that fails at the same point again and again has to end one day, and say so.
"""

from __future__ import annotations

import json
from logging import getLogger
from pathlib import Path

from protocol.errors import RemoteProtocolError
from protocol.files import Door, write_atomic

logger = getLogger(__name__)

FAILURES = ".vmbridge.failures"
MOST_FAILURES = 6
"""So many machines may fail in a row; half of them from the newest checkpoint, which is given up then for an older."""

_LIMIT = 4096


def count_failure(directory: Path, checkpoint_cpu_seconds: float) -> int:
    """Count a machine that has failed, and return how many have since the last checkpoint, this one included.

    `checkpoint_cpu_seconds` is the job's CPU time at its newest checkpoint: more than at the last failure means that
    it has come further since. A record that cannot be read or written is none: then the job is tried once more.
    """
    count, before = _read(directory)
    count = 1 if checkpoint_cpu_seconds > before else count + 1
    record = {"count": count, "checkpoint_cpu_seconds": max(before, checkpoint_cpu_seconds)}
    try:
        write_atomic(directory / FAILURES, json.dumps(record).encode(), durable=False)
    except OSError as error:
        logger.warning("it cannot be noted that the machine failed: %s", error)
    return count


def forget_failures(directory: Path) -> None:
    """The job is over."""
    (directory / FAILURES).unlink(missing_ok=True)


def _read(directory: Path) -> tuple[int, float]:
    try:
        with Door(directory) as door:
            record = json.loads(door.read(FAILURES, _LIMIT) or b"null")
        return int(record["count"]), float(record["checkpoint_cpu_seconds"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, RemoteProtocolError):
        return 0, 0.0
