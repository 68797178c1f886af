"""The way through libvirt to QEMU's own monitor: for what libvirt has no verb for.

That is whether the guest's share holds a saving back, and saved states that a machine can be started from so that it
ends with the bridge: libvirt's own are reverted to by a machine that would outlive us.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...errors import CommandFailed
from .binding import call, hand_over


class Monitor:
    """The monitor of one running machine."""

    def __init__(self, libvirt_qemu: Any, connection: Any, machine: Any) -> None:
        self._libvirt_qemu = libvirt_qemu
        self._connection = connection
        self._machine = machine
        self._listeners: list[asyncio.Queue[Mapping[str, Any]]] = []
        self._number: int | None = None

    async def start(self) -> None:
        """Listen from now on, until `forget`.

        :raise CommandFailed: libvirt does not allow it.
        """
        loop = asyncio.get_running_loop()

        def hear(connection: Any, machine: Any, event: str, seconds: int, micros: int, said: str, _: object) -> None:
            hand_over(loop, lambda: self._tell(json.loads(said)))

        register = self._libvirt_qemu.qemuMonitorEventRegister
        arguments = (self._connection, self._machine, "JOB_STATUS_CHANGE", hear, None, 0)
        self._number = await call("listen to QEMU", register, *arguments)

    def forget(self) -> None:
        """Listen no more; blocks."""
        if self._number is not None:
            self._libvirt_qemu.qemuMonitorEventDeregister(self._connection, self._number)

    def _tell(self, change: Mapping[str, Any]) -> None:
        for listener in self._listeners:
            listener.put_nowait(change)

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> Any:
        """Return QEMU's answer.

        :raise CommandFailed: it is an error, or there is none.
        """
        words = json.dumps({"execute": command, **({} if arguments is None else {"arguments": arguments})})
        said = await call(command, self._libvirt_qemu.qemuMonitorCommand, self._machine, words, 0)
        answer = json.loads(said)
        if "error" in answer:
            raise CommandFailed(f"QEMU failed at {command}: {answer['error'].get('desc', answer['error'])}")
        return answer["return"]

    @contextmanager
    def job_changes(self) -> Iterator[AsyncIterator[Mapping[str, Any]]]:
        """Give the changes of QEMU's jobs from now on."""
        heard: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

        async def changes() -> AsyncIterator[Mapping[str, Any]]:
            while True:
                yield await heard.get()

        self._listeners.append(heard)
        try:
            yield changes()
        finally:
            self._listeners.remove(heard)

    async def node_of(self, disk: str) -> str:
        """Return the block node of the machine's qcow2 at the path `disk`, which libvirt has named.

        :raise CommandFailed: there is none.
        """
        for node in await self.execute("query-named-block-nodes", {"flat": True}):
            if node["drv"] == "qcow2" and node["image"]["filename"] == disk:
                return str(node["node-name"])
        raise CommandFailed(f"the machine has no disk {disk}")
