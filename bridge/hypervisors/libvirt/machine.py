"""One machine under libvirt: its process, what is heard of it, and its work disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import psutil

from ...errors import BridgeError, CommandFailed, HostError, HypervisorError, NotInstalled
from ...image import Image
from ...image.bare import BareDisk
from ...tail import Tail
from .. import SWITCHED_OFF, Condition, MachineSpec, MachineState, disk_too_large, refuse_unwritable
from ..child import own_cpu
from ..foreign import is_alive, kill
from ..qemu import snapshots, work_disk
from ..qemu.command_line import Accelerated
from ..qemu.copies import Copies
from ..qemu.disks import refuse_dependent
from ..qemu.gate import Gate, OwnAddresses
from ..qemu.machine import security_model
from ..qemu.probe import KVM, can_network, probe
from ..qemu.tsc import for_boot
from .binding import LONG_CALL_WITHIN_S, binding, call, hand_over
from .connection import Connection
from .domain import Owner, disk_name, domain, domain_name, machine_id
from .monitor import Monitor, hands_over
from .uri import is_session

logger = getLogger(__name__)

FIRMWARE = Path("/usr/share/qemu/qboot.rom")
"""Boots a kernel quicker than QEMU's own; where Debian and Fedora have it."""

_SLOW_S = 20.0
_FORGOTTEN_WITHIN_S = 10.0
_CONSOLE_BYTES = 65_536


class Libvirt:
    """A machine that ends when its connection to libvirt does, and that does when the bridge ends."""

    one_folder = False
    needs_image = True

    keepalive: ClassVar[tuple[int, int]] = (10, 6)
    """A daemon that has not answered so often, at intervals of so many seconds, counts as gone."""

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._state = MachineState.ABSENT
        self._found: Accelerated | None = None
        self._copies = Copies(work_disk.work_disk(spec))
        self._connection: Connection | None = None
        self._version = ""
        self._machine: Any = None
        self._monitor: Monitor | None = None
        self._node = ""
        self._gate: Gate | None = None
        self._connected = True
        self._process: psutil.Process | None = None
        self._cpu_seconds = 0.0
        self._tail = Tail()
        self._ended: asyncio.Future[str] | None = None
        self._trouble: asyncio.Future[BridgeError] | None = None

    # The connection

    async def _connect(self) -> Connection:
        """Return the connection to libvirt, opened if it is not."""
        if self._connection is None:
            self._connection = await Connection.open(self.keepalive, self._lost)
            self._version = self._connection.version
        return self._connection

    async def _disconnect(self) -> None:
        """Let go of libvirt; with the connection the machine ends, if it has not."""
        connection, self._connection = self._connection, None
        self._monitor = self._machine = None
        if connection is not None:
            await connection.close()

    def _lost(self) -> None:
        if self._connection is not None and self._trouble is not None and not self._trouble.done():
            self._machine = None  # nobody is there to be told
            self._trouble.set_result(CommandFailed("the connection to libvirt is lost: its daemon has ended or hangs"))

    # What will run it

    async def probe(self) -> str:
        qemu = await self._probe()
        connection = await self._connect()
        return f"libvirt {connection.version} ({connection.uri}), {qemu}"

    async def _probe(self) -> Accelerated:
        image = self._spec.image
        assert image is not None
        if self._found is None:
            refuse_unwritable(self._spec)
            program, kvm = await self._emulator(image.arch)
            kernel = image.kernel if isinstance(image, Image) else None
            found = await probe(image.arch, kernel, KVM if kvm else Path("/nonexistent"), program)
            if isinstance(image, BareDisk):
                await refuse_dependent(image)
            if self._spec.network:
                if not hands_over(binding()[1], self._version):
                    raise NotInstalled(
                        f"the job needs the network, which libvirt (with its Python module) gives a machine since 8.2, "
                        f"and this is {self._version}. Choose qemu"
                    )
                await can_network(program)
            self._found = found
        return self._found

    async def _emulator(self, arch: str) -> tuple[Path, bool]:
        """Return which QEMU libvirt runs guests of `arch` with, and whether it believes that KVM serves.

        :raise NotInstalled: none.
        """
        ask = (await self._connect()).raw.getDomainCapabilities
        try:
            said = str(await call("ask what it can", ask, None, arch, None, None, within_s=LONG_CALL_WITHIN_S))
        except CommandFailed as error:
            install = "Install it (Debian: apt-get install qemu-system-x86 qemu-utils)"
            raise NotInstalled(f"libvirt has no QEMU for guests of {arch}: {error}. {install}") from error
        found = ElementTree.fromstring(said)
        return Path(found.findtext("path", "")), found.findtext("domain") == "kvm"

    # The verbs

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self._end_leftovers()
        if isinstance(self._spec.image, BareDisk) and work_disk.work_disk(self._spec).exists():
            await work_disk.tidy(self._spec)
        else:
            await work_disk.make(self._spec)
        await self._launch(None)

    async def _launch(self, from_tag: str | None) -> None:
        """Start the machine; if it fails, it is as it was before, and may be tried again."""
        if security_model(self._spec.share.guest) != "mapped-xattr":
            raise HypervisorError(
                f"the file system of {self._spec.share.guest} has no extended attributes, which folders shared by "
                "libvirt need. Move the job to another file system, or choose qemu"
            )
        self._ended = asyncio.get_running_loop().create_future()
        self._trouble = asyncio.get_running_loop().create_future()
        self._tail, self._cpu_seconds, self._process = Tail(), 0.0, None
        try:
            await self._create(from_tag)
            self._state = MachineState.RUNNING
        except BaseException:
            await self._end()
            self._state = MachineState.ABSENT
            raise

    async def _create(self, from_tag: str | None) -> None:
        libvirt, libvirt_qemu = binding()
        connection = await self._connect()
        qemu, image = await self._probe(), self._spec.image
        assert image is not None
        xml = domain(
            self._spec,
            qemu,
            work_disk=work_disk.work_disk(self._spec),
            owner=None if is_session(connection.uri) else Owner(os.getuid(), os.getgid()),
            firmware=_firmware(),
            tsc_khz=None if from_tag is not None else await for_boot(qemu, image),
            from_tag=from_tag,
        )
        await self._listen(connection)
        flags = libvirt.VIR_DOMAIN_START_AUTODESTROY | libvirt.VIR_DOMAIN_START_PAUSED
        begun = time.monotonic()
        create = connection.raw.createXML
        self._machine = await call("start the machine", create, xml, flags, within_s=LONG_CALL_WITHIN_S)
        if (took := time.monotonic() - begun) > _SLOW_S:
            from ..reasons import find

            logger.warning("the machine was made in %.0f seconds. %s", took, find("libvirt-slow").sentence)
        self._process = await asyncio.to_thread(_process_of, str(machine_id(self._spec.directory)))
        if self._process is None:
            raise CommandFailed(f"libvirt at {connection.uri} has started the machine, but not on this computer")
        self._monitor = Monitor(libvirt_qemu, connection.raw, self._machine)
        await self._monitor.start()
        connection.at_close(self._monitor.forget)
        self._node = await self._monitor.node_of(str(work_disk.work_disk(self._spec).resolve()))
        if self._spec.largest_file is not None:
            limit = self._machine.setBlockThreshold
            await call("limit the disk", limit, disk_name(self._spec), self._spec.largest_file)
        try:
            await self._open_console(connection)
        except CommandFailed as error:  # people would like to see what it prints; it runs as well without
            logger.warning("%s", error)
        if self._spec.network:
            self._gate = Gate(OwnAddresses())
            await self._monitor.build(self._gate)
            await self._monitor.plug(self._connected)  # a saved state remembers how it was then
        await call("let the machine run", self._machine.resume)

    async def pause(self) -> None:
        if self._state is MachineState.RUNNING:
            await self._tell("pause", "suspend")
            self._state = MachineState.PAUSED

    async def resume(self) -> None:
        if self._state is MachineState.PAUSED:
            await self._tell("resume", "resume")
            self._state = MachineState.RUNNING

    async def _tell(self, doing: str, verb: str) -> None:
        """Tell the machine something; one that has ended by itself is not told anything."""
        try:
            if self._machine is not None:
                await call(doing, getattr(self._machine, verb))
        except CommandFailed:
            if self._runs:
                raise

    async def wait(self) -> str:
        assert self._ended is not None and self._trouble is not None, "wait() before start()"
        await asyncio.wait((self._ended, self._trouble), return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            return self._ended.result()
        raise self._trouble.result()

    async def stop(self) -> None:
        await self._end()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        with contextlib.suppress(FileNotFoundError):
            work_disk.work_disk(self._spec).unlink()
        self._copies.forget_all_but(None)
        self._state = MachineState.ABSENT

    def examine(self) -> Condition:
        runs = self._runs
        if runs and self._process is not None:
            self._cpu_seconds = max(self._cpu_seconds, own_cpu(self._process))
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not runs else self._state
        other_pid = self._process.pid if runs and self._process is not None else None
        return Condition(state, self._cpu_seconds, self._tail.text, other_pid)

    @property
    def _runs(self) -> bool:
        """The machine's process is there. libvirt says that it runs for a second after it was killed."""
        return self._process is not None and is_alive(self._process)

    async def _end(self) -> None:
        """End the machine and let go of libvirt, which may hang: the process is this user's own.

        :raise HypervisorError: it cannot be ended.
        """
        self.examine()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result("the machine was ended")
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        if self._process is not None:
            await kill(self._process)
        if self._machine is not None:
            with contextlib.suppress(CommandFailed):  # it has noticed by itself, or will
                await call("forget the machine", self._machine.destroy, within_s=_FORGOTTEN_WITHIN_S)
        await self._disconnect()

    async def _end_leftovers(self) -> None:
        """End the machine of an earlier start in the same place. Its id is made of the place, so it is no other's."""
        connection = await self._connect()
        libvirt, _ = binding()
        machine = machine_id(self._spec.directory)

        def end() -> None:
            try:
                left = connection.raw.lookupByUUID(machine.bytes)
                if left.name() == domain_name(machine):
                    left.destroy()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise

        await call("end a machine that was left", end)
        if (process := await asyncio.to_thread(_process_of, str(machine))) is not None:
            await kill(process)

    # What is heard

    async def _listen(self, connection: Connection) -> None:
        libvirt, _ = binding()
        events: dict[int, Callable[..., None]] = {
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: self._hear_of_life,
            libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: self._hear_of_disk,
            libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD: self._hear_of_threshold,
        }
        await connection.listen(machine_id(self._spec.directory), events)

    def _hear_of_life(self, event: int, detail: int, _: object) -> None:
        libvirt, _ = binding()
        if event != libvirt.VIR_DOMAIN_EVENT_STOPPED or self._ended is None or self._ended.done():
            return
        reasons = {
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: SWITCHED_OFF,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "somebody has ended the machine by libvirt",
        }
        self._ended.set_result(reasons.get(detail, "QEMU has ended, and not in order"))

    def _hear_of_disk(self, path: str, device: str, action: int, reason: str, _: object) -> None:
        if self._trouble is not None and not self._trouble.done():
            why = {"enospc": "No space left on device"}.get(reason, reason or "the device fails")
            self._trouble.set_result(HostError(f"the host cannot write the machine's disk: {why}"))

    def _hear_of_threshold(self, disk: str, path: str, threshold: int, excess: int, _: object) -> None:
        if self._trouble is not None and not self._trouble.done():
            self._trouble.set_result(disk_too_large(threshold))

    async def _open_console(self, connection: Connection) -> None:
        libvirt, _ = binding()
        loop, tail = asyncio.get_running_loop(), self._tail
        stream = connection.raw.newStream()
        await call("open the console", self._machine.openConsole, None, stream, 0)

        def read() -> None:  # an event's callback would keep stream and connection for ever (libvirt-python 9.0)
            with contextlib.suppress(libvirt.libvirtError):
                while said := stream.recv(_CONSOLE_BYTES):
                    hand_over(loop, partial(tail.data_received, said))

        threading.Thread(target=read, name="libvirt: console", daemon=True).start()

    # Networked

    async def connect(self, connected: bool) -> None:
        self._connected = connected
        if self._gate is not None and self._monitor is not None:
            try:
                await self._monitor.plug(connected)
            except CommandFailed:
                if self._runs:
                    raise

    # Particular

    @staticmethod
    def refuses(image: Image | BareDisk) -> str | None:
        if image.arch == "x86_64":
            return None
        return f"it is for {image.arch}, and libvirt here boots x86_64"

    # Continues

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        await work_disk.leave(folder)

    # Saves

    async def description(self) -> Mapping[str, str]:
        qemu = await self._probe()
        image = self._spec.image
        assert image is not None
        return {
            "hypervisor": "libvirt",
            # What devices a machine gets for the same words is libvirt's to decide.
            "libvirt": ".".join(self._version.split(".")[:2]),
            "version": ".".join(qemu.version.split(".")[:2]),
            "accelerator": qemu.accelerator,
            "cpu": qemu.cpu,
            "cpus": str(self._spec.cpus),
            "memory_mb": str(self._spec.memory_mb),
            "firmware": str(_firmware() or "QEMU's"),
            "image": image.digest,
            **({"network": "user"} if self._spec.network else {}),
        }

    async def held_back(self) -> str | None:
        return await snapshots.mounted_share(self._qemu)

    async def save(self, tag: str) -> None:
        await snapshots.save(self._qemu, tag, self._node)

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
        await snapshots.forget_all_but(self._qemu, tags, self._node)

    async def restore(self, tag: str) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self._end_leftovers()
        await work_disk.tidy(self._spec)
        await self._launch(tag)

    @property
    def _qemu(self) -> Monitor:
        if self._monitor is None:
            raise CommandFailed("the machine is not there")
        return self._monitor


def _firmware() -> Path | None:
    return FIRMWARE if FIRMWARE.exists() else None


def _process_of(machine: str) -> psutil.Process | None:
    """Return the QEMU of the machine with this id, if it runs on this computer."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "-uuid" in words and words[words.index("-uuid") + 1 :][:1] == [machine] and is_alive(process):
            return process
    return None
