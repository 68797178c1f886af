"""One QEMU machine: its process, its QMP connection and its work disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

from qemu.qmp import EventListener, Message, QMPClient, QMPError

from protocol.files import write_atomic

from ...errors import BridgeError, CommandFailed, HostError, NotPermitted
from ...image import Image
from ...image.bare import BareDisk
from .. import HOST_ARCH, SWITCHED_OFF, Condition, MachineSpec, MachineState, disk_too_large
from ..child import Child, clean_environment
from . import snapshots, work_disk
from .command_line import CABLE, NODE, Accelerated, machine, waits
from .copies import Copies
from .disks import refuse_dependent
from .gate import Gate, OwnAddresses
from .probe import PROGRAMS, can_network, package_of, probe
from .tsc import for_boot

_QMP_WITHIN_S = 60.0

ACCELERATOR = "accelerator"
"""Says, in a machine's folder, what it ran on last."""


class Qemu:
    """A machine in a QEMU process that ends when the bridge ends, however that happens."""

    one_folder = False
    needs_image = True

    def __init__(
        self, spec: MachineSpec, look_for: Callable[[str, Path | None], Awaitable[Accelerated]] = probe
    ) -> None:
        """`look_for` finds QEMU and the accelerator that works, for an architecture and a kernel."""
        self._spec = spec
        self._look_for = look_for
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
            found = await self._look_for(image.arch, image.kernel if isinstance(image, Image) else None)
            if found.kvm_held is not None and was_on_kvm(self._spec.directory):
                raise found.kvm_held.error()
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
            await work_disk.tidy(self._spec)
        else:
            await work_disk.make(self._spec)
        await self._launch(None)

    async def _launch(self, from_tag: str | None) -> None:
        """Start QEMU; if it fails, the machine is as it was before, and may be tried again."""
        qemu, image = await self._probe(), self._spec.image
        assert image is not None
        tsc_khz = None if from_tag is not None else await for_boot(qemu, image)
        write_atomic(self._spec.directory / ACCELERATOR, qemu.accelerator.encode(), durable=False)
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
                tsc_khz=tsc_khz,
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
        with contextlib.suppress(FileNotFoundError):
            (self._spec.directory / ACCELERATOR).unlink()
        self._copies.forget_all_but(None)
        self._state = MachineState.ABSENT

    def examine(self) -> Condition:
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not self._child.running else self._state
        return Condition(state, self._child.cpu_seconds(), self._child.tail)

    # Particular

    @staticmethod
    def refuses(image: Image | BareDisk) -> str | None:
        program = PROGRAMS.get(image.arch)
        if program is None:
            return f"it is for {image.arch}, and QEMU here boots {', '.join(PROGRAMS)}"
        # That for the computer's own architecture is what QEMU is found by: where it is missing, the probe says so.
        if image.arch != HOST_ARCH and shutil.which(program) is None:
            return f"it is for {image.arch}, and {program} is not in PATH (Debian: {package_of(program)})"
        return None

    # Continues

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        await work_disk.leave(folder)

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
            "cpu": qemu.cpu,
            "cpus": str(self._spec.cpus),
            "memory_mb": str(self._spec.memory_mb),
            "image": image.digest,
            **({"network": "user"} if self._spec.network else {}),
        }

    async def held_back(self) -> str | None:
        async with self._translated("query-migrate"):
            return await asyncio.wait_for(snapshots.mounted_share(_Monitor(self._qmp)), _QMP_WITHIN_S)

    async def save(self, tag: str) -> None:
        async with self._translated("snapshot-save"):
            await snapshots.save(_Monitor(self._qmp), tag, NODE)

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
            await snapshots.forget_all_but(_Monitor(self._qmp), tags, NODE)

    async def restore(self, tag: str) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await work_disk.tidy(self._spec)
        await self._launch(tag)

    def _disk_error(self, event: Message) -> BridgeError:
        data: Any = event["data"]
        if self._spec.largest_file is not None and data["reason"] == os.strerror(errno.EFBIG):
            return disk_too_large(self._spec.largest_file)
        return HostError(f"the host cannot {data['operation']} the machine's disk: {data['reason']}")

    @property
    def _work_disk(self) -> Path:
        return work_disk.work_disk(self._spec)

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


class _Monitor:
    """QMP as `snapshots` wants it."""

    def __init__(self, qmp: QMPClient) -> None:
        self._qmp = qmp

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        return await self._qmp.execute(command, arguments)

    @contextmanager
    def job_changes(self) -> Iterator[AsyncIterator[Mapping[str, Any]]]:
        listener = EventListener("JOB_STATUS_CHANGE")
        with self._qmp.listen(listener):
            yield (cast("Mapping[str, Any]", event["data"]) async for event in listener)


def was_on_kvm(folder: Path) -> bool:
    """Say whether the machine in `folder` ran on KVM last. Its saved states are of no use on anything else."""
    try:
        return (folder / ACCELERATOR).read_bytes() == b"kvm"
    except OSError:
        return False


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
