"""One QEMU machine: its process, its QMP connection and its work disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, Message, QMPClient, QMPError

from ...errors import BridgeError, CommandFailed, HostError, NotPermitted, OverBound
from ...image import Image
from ...image.bare import BareDisk
from ...trees import remove_tree
from .. import SWITCHED_OFF, Condition, MachineSpec, MachineState
from ..child import Child, clean_environment, run_briefly
from . import snapshots
from .command_line import CABLE, CPU_MODELS, WORK_DISK, Accelerated, machine, waits
from .copies import Copies
from .disks import refuse_dependent
from .gate import Gate, OwnAddresses
from .probe import can_network, find, probe

logger = getLogger(__name__)

_QMP_WITHIN_S = 60.0


class Qemu:
    """A machine in a QEMU process that ends when the bridge ends, however that happens."""

    one_folder = False
    needs_image = True

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._child = Child("QEMU")
        self._qmp = QMPClient("vmbridge")
        self._disk_trouble = EventListener("BLOCK_IO_ERROR")
        self._state = MachineState.ABSENT
        self._found: Accelerated | None = None
        self._copies = Copies(self._work_disk)
        self._gate: Gate | None = None
        self._connected = True

    async def probe(self) -> str:
        return str(await self._probe())

    async def _probe(self) -> Accelerated:
        image = self._spec.image
        assert image is not None
        if self._found is None:
            found = await probe(image.arch, image.kernel if isinstance(image, Image) else None)
            if isinstance(image, BareDisk):
                await refuse_dependent(image)
            if self._spec.network:
                await can_network(found.program)
            self._found = found
        return self._found

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        if isinstance(self._spec.image, BareDisk) and self._work_disk.exists():
            await self._tidy_work_disk()
        else:
            await self._make_work_disk()
        await self._launch(None)

    async def _launch(self, from_tag: str | None) -> None:
        """Start QEMU; if it fails, the machine is as it was before, and may be tried again."""
        qemu = await self._probe()
        self._child = Child("QEMU")
        self._qmp = QMPClient("vmbridge")
        self._disk_trouble = EventListener("BLOCK_IO_ERROR")
        self._qmp.register_listener(self._disk_trouble)
        # A socket pair, not a socket file: nothing to clean up, no path that is too long, nobody else can connect.
        ours, theirs = socket.socketpair()
        self._gate = Gate(OwnAddresses()) if self._spec.network else None
        gate_fds = None if self._gate is None else (self._gate.card.fileno(), self._gate.network.fileno())
        with theirs:
            words = machine(
                self._spec,
                qemu,
                work_disk=self._work_disk,
                qmp_fd=theirs.fileno(),
                security_model=security_model(self._spec.share.guest),
                gate_fds=gate_fds,
                from_tag=from_tag,
            )
            try:
                await self._child.start(
                    words,
                    pass_fds=[theirs.fileno(), *(gate_fds or ())],
                    env=clean_environment(),
                    largest_file=self._spec.largest_file,
                )
            except BaseException:
                ours.close()
                self._close_gate()
                raise
        self._state = MachineState.RUNNING
        try:
            async with self._translated("start"):
                await asyncio.wait_for(self._qmp.connect(ours), _QMP_WITHIN_S)
                if self._gate is not None:
                    self._gate.open()
                    await self._plug()
                if waits(self._spec, from_tag):
                    await asyncio.wait_for(self._qmp.execute("cont"), _QMP_WITHIN_S)
        except BaseException:
            await self.stop()
            self._state = MachineState.ABSENT
            raise

    async def pause(self) -> None:
        if self._state is MachineState.RUNNING:
            await self._execute("stop")
            self._state = MachineState.PAUSED

    async def resume(self) -> None:
        if self._state is MachineState.PAUSED:
            await self._execute("cont")
            self._state = MachineState.RUNNING

    async def wait(self) -> str:
        ended = asyncio.ensure_future(self._child.wait())
        trouble = asyncio.ensure_future(self._disk_trouble.get())
        try:
            await asyncio.wait((ended, trouble), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                raise self._disk_error(trouble.result())
            status = ended.result()
        finally:
            ended.cancel()
            trouble.cancel()
        if status < 0:
            return f"QEMU was ended by signal {-status}"
        if status:
            return f"QEMU ended with status {status}"
        return SWITCHED_OFF

    async def stop(self) -> None:
        await self._child.kill()
        self._close_gate()
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._qmp.disconnect()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        with contextlib.suppress(FileNotFoundError):
            self._work_disk.unlink()
        self._copies.forget_all_but(None)
        self._state = MachineState.ABSENT

    def examine(self) -> Condition:
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not self._child.running else self._state
        return Condition(state, self._child.cpu_seconds(), self._child.tail)

    # Continues

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        for name in os.listdir(folder):
            if name != WORK_DISK:
                remove_tree(folder / name)
        program, disk = str(find("qemu-img")), str(folder / WORK_DISK)
        info: Any = json.loads(await run_briefly([program, "info", "--output=json", disk]))
        for snapshot in info.get("snapshots", []):
            await run_briefly([program, "snapshot", "-q", "-d", snapshot["name"], disk])

    # Networked

    async def connect(self, connected: bool) -> None:
        self._connected = connected
        if self._gate is not None and self._state in (MachineState.RUNNING, MachineState.PAUSED):
            await self._execute("set_link", name=CABLE, up=connected)

    async def _plug(self) -> None:
        """Plug the cable in or out at a start: a saved state remembers how it was then."""
        await asyncio.wait_for(self._qmp.execute("set_link", {"name": CABLE, "up": self._connected}), _QMP_WITHIN_S)

    def _close_gate(self) -> None:
        if self._gate is not None:
            self._gate.close()
            self._gate = None

    # Saves

    async def description(self) -> Mapping[str, str]:
        qemu = await self._probe()
        image = self._spec.image
        assert image is not None
        return {
            "hypervisor": "qemu",
            # A versioned machine type belongs to each release, and its updates load each other's states.
            "version": ".".join(qemu.version.split(".")[:2]),
            "accelerator": qemu.accelerator,
            "cpu": CPU_MODELS[qemu.accelerator],
            "cpus": str(self._spec.cpus),
            "memory_mb": str(self._spec.memory_mb),
            "image": image.digest,
            **({"network": "user"} if self._spec.network else {}),
        }

    async def held_back(self) -> str | None:
        async with self._translated("query-migrate"):
            return await asyncio.wait_for(snapshots.mounted_share(self._qmp), _QMP_WITHIN_S)

    async def save(self, tag: str) -> None:
        async with self._translated("snapshot-save"):
            await snapshots.save(self._qmp, tag)

    def copy_bytes(self) -> int:
        return self._copies.bytes()

    async def copy(self, tag: str) -> None:
        await self._copies.take(tag)

    async def sync_copy(self, tag: str) -> None:
        await self._copies.sync(tag)

    async def put_back(self, tag: str) -> None:
        await self._copies.put_back(tag)

    async def forget_all_but(self, tags: Collection[str], copy: str | None = None) -> None:
        self._copies.forget_all_but(copy)
        async with self._translated("snapshot-delete"):
            for tag in await snapshots.tags(self._qmp):
                if tag not in tags:
                    await snapshots.delete(self._qmp, tag)

    async def restore(self, tag: str) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self._tidy_work_disk()
        await self._launch(tag)

    async def _tidy_work_disk(self) -> None:
        """A QEMU that was killed while it wrote leaves clusters behind that nobody uses, which would add up."""
        try:
            await run_briefly([str(find("qemu-img")), "check", "-q", "-r", "leaks", str(self._work_disk)])
        except CommandFailed as error:
            logger.warning("the machine's disk was not tidied up: %s", error)

    def _disk_error(self, event: Message) -> BridgeError:
        data: Any = event["data"]
        if self._spec.largest_file is not None and data["reason"] == os.strerror(errno.EFBIG):
            allowed = self._spec.largest_file >> 20
            return OverBound(f"the machine's disk would take more than the {allowed:,} MB that the job may have")
        return HostError(f"the host cannot {data['operation']} the machine's disk: {data['reason']}")

    @property
    def _work_disk(self) -> Path:
        return self._spec.directory / WORK_DISK

    async def _make_work_disk(self) -> None:
        """Make the machine's own disk: an overlay over the image's or over an earlier machine's, never written again.

        Without that it is a disk that the guest does not see and that only holds saved states.
        """
        image = self._spec.image
        assert image is not None
        base, form = image.work_disk, image.work_disk_format
        if self._spec.before is not None and base is not None:
            base, form = self._spec.before / WORK_DISK, "qcow2"
        over = ["-F", form, "-b", str(base.resolve())] if base is not None else []
        size = [] if over else ["1M"]
        new = self._work_disk.with_suffix(".new")  # a disk that is there is whole
        await run_briefly([str(find("qemu-img")), "create", "-q", "-f", "qcow2", *over, str(new), *size])
        new.replace(self._work_disk)

    async def _execute(self, command: str, **arguments: object) -> None:
        """Tell the machine something; one that has ended by itself is not told anything."""
        try:
            async with self._translated(command):
                await asyncio.wait_for(self._qmp.execute(command, arguments or None), _QMP_WITHIN_S)
        except CommandFailed:
            if self._child.running:
                raise

    @asynccontextmanager
    async def _translated(self, doing: str) -> AsyncIterator[None]:
        """Turn QMP's errors into ours, with what QEMU itself said when it refused to run."""
        try:
            yield
        except (QMPError, EOFError, OSError, asyncio.TimeoutError) as error:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._child.wait(), 1.0)
            said = self._child.tail.strip()[-600:] or str(error) or type(error).__name__
            raise CommandFailed(f"QEMU failed at {doing}: {said}") from error


def security_model(folder: Path) -> str:
    """Return the 9p security model for an export: extended attributes where the file system has them.

    :raise NotPermitted: the folder cannot be written at all.
    """
    try:
        os.setxattr(folder, "user.vmbridge.probe", b"1")
        os.removexattr(folder, "user.vmbridge.probe")
    except PermissionError as error:
        raise NotPermitted(f"{folder} cannot be written: {error.strerror}") from error
    except OSError:
        return "mapped-file"
    return "mapped-xattr"
