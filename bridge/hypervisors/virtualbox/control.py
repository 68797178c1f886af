"""What the bridge has VirtualBox do with one machine: an interface, which its API serves, or VBoxManage."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .plan import Plan

SAVED_WITHIN_S = 600.0
"""Gigabytes of memory are written, or disks merged."""


class Control(Protocol):
    """One machine, in its own registry. Each verb is bounded in time, and the machine's states have the API's names.

    Errors are `CommandFailed`, or `Hindered` where VirtualBox's service does not answer.
    """

    news: asyncio.Event
    """Set when the machine has come into another state, if anybody tells."""

    async def make(self, plan: Plan) -> None:
        """Make the machine, in an empty registry."""

    async def state(self) -> str:
        """Return the machine's state."""

    async def now(self) -> str:
        """Return the machine's state as it is known: what was told of it last, or what is asked."""

    async def pause(self) -> None:
        """Stop the machine's processors."""

    async def resume(self) -> None:
        """Let the machine go on."""

    async def tags(self) -> list[str]:
        """Return the names of the machine's snapshots."""

    async def take(self, tag: str) -> None:
        """Take a snapshot: memory and disk of one moment."""

    async def forget(self, tag: str) -> None:
        """Delete a snapshot, of a machine in any state."""

    async def go_back(self, tag: str) -> None:
        """Have the machine, which is off, begin next with a snapshot."""

    async def close(self) -> None:
        """Let go of the machine, and of a service that hangs."""
