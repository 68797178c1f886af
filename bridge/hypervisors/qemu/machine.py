"""One QEMU machine: its process, its QMP connection and its work disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging import getLogger
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

from ...errors import CommandFailed, NotPermitted
from .. import Condition, MachineSpec, MachineState
from ..child import Child, clean_environment, run_briefly
from .command_line import Accelerated, machine
from .probe import find, probe

logger = getLogger(__name__)

_QMP_WITHIN_S = 30.0


class Qemu:
    """A machine in a QEMU process that ends when the bridge ends, however that happens."""

    one_folder = False
    needs_image = True

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._child = Child("QEMU")
        self._qmp = QMPClient("vmbridge")
        self._state = MachineState.ABSENT
        self._found: Accelerated | None = None

    async def probe(self) -> str:
        return str(await self._probe())

    async def _probe(self) -> Accelerated:
        assert self._spec.image is not None
        if self._found is None:
            self._found = await probe(self._spec.image.arch, self._spec.image.kernel)
        return self._found

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        qemu = await self._probe()
        work_disk = await self._make_work_disk()
        # A socket pair, not a socket file: nothing to clean up, no path that is too long, nobody else can connect.
        ours, theirs = socket.socketpair()
        with theirs:
            words = machine(
                self._spec,
                qemu,
                work_disk=work_disk,
                qmp_fd=theirs.fileno(),
                security_model=security_model(self._spec.share.guest),
            )
            try:
                await self._child.start(words, pass_fds=[theirs.fileno()], env=clean_environment())
            except BaseException:
                ours.close()
                raise
        self._state = MachineState.RUNNING
        try:
            async with self._translated("start"):
                await asyncio.wait_for(self._qmp.connect(ours), _QMP_WITHIN_S)
        except BaseException:
            await self.stop()
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
        status = await self._child.wait()
        if status < 0:
            return f"QEMU was ended by signal {-status}"
        if status:
            return f"QEMU ended with status {status}"
        return "the machine switched itself off"

    async def stop(self) -> None:
        await self._child.kill()
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._qmp.disconnect()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        with contextlib.suppress(FileNotFoundError):
            self._work_disk.unlink()
        self._state = MachineState.ABSENT

    def examine(self) -> Condition:
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not self._child.running else self._state
        return Condition(state, self._child.cpu_seconds(), self._child.tail)

    @property
    def _work_disk(self) -> Path:
        return self._spec.directory / "work.qcow2"

    async def _make_work_disk(self) -> Path | None:
        """Make the machine's own disk, an overlay over the image's formatted one, which is never written."""
        assert self._spec.image is not None
        base = self._spec.image.work_disk
        if base is None:
            return None
        words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base.resolve()), str(self._work_disk)]
        await run_briefly([str(find("qemu-img")), *words])
        return self._work_disk

    async def _execute(self, command: str) -> None:
        """Tell the machine something; one that has ended by itself is not told anything."""
        try:
            async with self._translated(command):
                await asyncio.wait_for(self._qmp.execute(command), _QMP_WITHIN_S)
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
