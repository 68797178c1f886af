"""Save a machine into its own disk and find it there again: QEMU's internal snapshots, over whatever leads to its QMP.

A snapshot holds memory and disk of one moment under a tag. QEMU concludes the job whether it worked or not, so its
error is always read; an unfinished snapshot never gets a name, so what has a name is whole. (QEMU 7.2: `snapshot-save`
does 18 data syncs; killed at any moment, older snapshots still load and the image has leaked clusters at worst.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ...errors import CommandFailed

_SAVED_WITHIN_S = 600.0


class Monitor(Protocol):
    """A way to one QEMU's QMP. Its errors are its own."""

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """Return QEMU's answer to a command."""

    def job_changes(self) -> AbstractContextManager[AsyncIterator[Mapping[str, Any]]]:
        """Give the changes of QEMU's jobs from now on: what its event JOB_STATUS_CHANGE says."""


async def mounted_share(monitor: Monitor) -> str | None:
    """Say why QEMU would not save the machine now, in its own words; None if it would."""
    answer: Any = await monitor.execute("query-migrate")
    reasons = answer.get("blocked-reasons")
    return "; ".join(reasons) if reasons else None


async def save(monitor: Monitor, tag: str, node: str) -> None:
    """Save memory and disk of a machine that stands still under a new `tag`; on the disk when this returns.

    `node` is the block node of the disk, which holds the memory too.

    :raise CommandFailed: it was not saved; what was saved before is as it was.
    """
    await _job(monitor, "snapshot-save", {"tag": tag, "vmstate": node, "devices": [node]})


async def forget_all_but(monitor: Monitor, kept: Collection[str], node: str) -> None:
    """Delete all snapshots but `kept`; their space is used again by the next one.

    :raise CommandFailed: one could not be deleted.
    """
    for found in _dicts(await monitor.execute("query-named-block-nodes", {"flat": True})):
        if found.get("node-name") == node:
            for tag in (snapshot["name"] for snapshot in found["image"].get("snapshots", [])):
                if tag not in kept:
                    await _job(monitor, "snapshot-delete", {"tag": tag, "devices": [node]})


async def _job(monitor: Monitor, command: str, arguments: dict[str, object]) -> None:
    """Run one of QEMU's jobs to its end."""
    name = f"{command}-{arguments['tag']}"
    with monitor.job_changes() as changes:
        await monitor.execute(command, {"job-id": name, **arguments})

        async def concluded() -> None:
            async for change in changes:
                if change["id"] == name and change["status"] == "concluded":
                    return

        await asyncio.wait_for(concluded(), _SAVED_WITHIN_S)
    error = None
    for job in _dicts(await monitor.execute("query-jobs")):
        if job["id"] == name:
            error = job.get("error")
    await monitor.execute("job-dismiss", {"id": name})
    if error is not None:
        raise CommandFailed(f"QEMU failed at {command}: {error}")


def _dicts(answer: object) -> list[dict[str, Any]]:
    return list(answer) if isinstance(answer, list) else []
