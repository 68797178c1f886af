"""The way through libvirt to QEMU's own monitor: for what libvirt has no verb for.

That is whether the guest's share holds a saving back, and saved states that a machine can be started from so that it
ends with the bridge: libvirt's own are reverted to by a machine that would outlive us. And it is the gate of a machine
with a network card (`qemu/gate.py`), whose sockets QEMU cannot inherit here: they are handed over.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...errors import CommandFailed
from ..qemu.command_line import CABLE
from ..qemu.gate import Gate
from .binding import call, hand_over
from .domain import WALL

_HANDS_OVER_SINCE = (8, 2)


def hands_over(libvirt_qemu: Any, version: str) -> bool:
    """Say whether sockets can be handed to a machine, by a libvirt of this version."""
    since = tuple(map(int, version.split(".")[:2]))
    return since >= _HANDS_OVER_SINCE and hasattr(libvirt_qemu, "qemuMonitorCommandWithFiles")


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
        send = self._libvirt_qemu.qemuMonitorCommand
        return _answer(command, await call(command, send, self._machine, _words(command, arguments), 0))

    async def _hand_over(self, end: socket.socket, name: str) -> None:
        """Give QEMU one end of a connection, for its next use of `name`."""
        send, words = self._libvirt_qemu.qemuMonitorCommandWithFiles, _words("getfd", {"fdname": name})
        copy = end.dup()  # by the time that a call which hangs goes on, the number may be another file's

        def hand_over() -> str:
            with copy:
                return str(send(self._machine, words, [copy.fileno()], 0)[0])

        _answer("getfd", await call("hand over a socket", hand_over))

    async def build(self, gate: Gate) -> None:
        """Put the gate of a machine that does not run in the place of the wall. At no time there is neither.

        :raise CommandFailed: it could not be done; the wall may still be there.
        """
        for name, end in (("from-card", gate.card), ("to-network", gate.network)):
            await self._hand_over(end, name)
            address = {"type": "fd", "data": {"str": name}}
            backend = {"type": "socket", "data": {"addr": address, "server": False}}
            await self.execute("chardev-add", {"id": name, "backend": backend})
        ways = {"netdev": CABLE, "queue": "rx", "outdev": "from-card", "indev": "to-network"}
        await self.execute("object-add", {"qom-type": "filter-redirector", "id": "gate", **ways})
        gate.open()
        await self.execute("object-del", {"id": WALL})

    async def plug(self, connected: bool) -> None:
        """Plug the card's cable in or out.

        :raise CommandFailed: it is not known whether it is in or out.
        """
        await self.execute("set_link", {"name": CABLE, "up": connected})

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


def _words(command: str, arguments: dict[str, object] | None) -> str:
    return json.dumps({"execute": command, **({} if arguments is None else {"arguments": arguments})})


def _answer(command: str, said: str) -> Any:
    answer = json.loads(said)
    if "error" in answer:
        raise CommandFailed(f"QEMU failed at {command}: {answer['error'].get('desc', answer['error'])}")
    return answer["return"]
