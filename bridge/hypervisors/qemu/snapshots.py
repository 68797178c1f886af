"""Save a machine into its own disk and find it there again: QEMU's internal snapshots, over QMP.

A snapshot holds memory and disk of one moment under a tag. QEMU concludes the job whether it worked or not, so its
error is always read; an unfinished snapshot never gets a name, so what has a name is whole. (QEMU 7.2: `snapshot-save`
does 18 data syncs; killed at any moment, older snapshots still load and the image has leaked clusters at worst.)
"""

from __future__ import annotations

import asyncio
from typing import Any

from qemu.qmp import EventListener, QMPClient

from ...errors import CommandFailed

NODE = "work"
"""The block node of the work disk: it holds the memory too."""

_SAVED_WITHIN_S = 600.0


async def mounted_share(qmp: QMPClient) -> str | None:
    """Say why QEMU would not save the machine now, in its own words; None if it would.

    :raise QMPError: QEMU does not answer.
    """
    answer: Any = await qmp.execute("query-migrate")
    reasons = answer.get("blocked-reasons")
    return "; ".join(reasons) if reasons else None


async def save(qmp: QMPClient, tag: str) -> None:
    """Save memory and disk of a machine that stands still under a new `tag`; on the disk when this returns.

    :raise CommandFailed: it was not saved; what was saved before is as it was.
    :raise QMPError: QEMU does not answer, and it is not known whether it was.
    """
    await _job(qmp, "snapshot-save", {"tag": tag, "vmstate": NODE, "devices": [NODE]})


async def delete(qmp: QMPClient, tag: str) -> None:
    """Delete the snapshot `tag`; the space is used again by the next one.

    :raise CommandFailed: it could not be deleted.
    """
    await _job(qmp, "snapshot-delete", {"tag": tag, "devices": [NODE]})


async def tags(qmp: QMPClient) -> list[str]:
    """Return the tags of all snapshots in the work disk."""
    for node in _dicts(await qmp.execute("query-named-block-nodes", {"flat": True})):
        if node.get("node-name") == NODE:
            return [snapshot["name"] for snapshot in node["image"].get("snapshots", [])]
    return []


async def _job(qmp: QMPClient, command: str, arguments: dict[str, object]) -> None:
    """Run one of QEMU's jobs to its end."""
    name = f"{command}-{arguments['tag']}"
    changes = EventListener("JOB_STATUS_CHANGE")
    with qmp.listen(changes):
        await qmp.execute(command, {"job-id": name, **arguments})

        async def concluded() -> None:
            async for change in changes:
                data: Any = change["data"]
                if data["id"] == name and data["status"] == "concluded":
                    return

        await asyncio.wait_for(concluded(), _SAVED_WITHIN_S)
    error = None
    for job in _dicts(await qmp.execute("query-jobs")):
        if job["id"] == name:
            error = job.get("error")
    await qmp.execute("job-dismiss", {"id": name})
    if error is not None:
        raise CommandFailed(f"QEMU failed at {command}: {error}")


def _dicts(answer: object) -> list[dict[str, Any]]:
    return list(answer) if isinstance(answer, list) else []
