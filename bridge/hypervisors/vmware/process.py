"""One run of a machine: the vmware-vmx that `vmrun start` leaves behind, below a keeper."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from ...errors import CommandFailed
from ...host.program import Program
from ...host.tree import Tree, tree_of
from ...tail import end_of
from ..child import clean_environment, own_cpu
from ..foreign import is_alive, kill
from .vmx import LOG

_STARTED_WITHIN_S = 120.0
_SAID = "vmrun.txt"

_START = """exec 3>&1 >"$1" 2>&1
shift
"$@" 3>&-
status=$?
echo $status >&3
exec 3>&-
[ $status = 0 ] && exec sleep 2147483647
"""
"""vmrun starts the machine and ends; what stays is the program that its keeper waits for. The machine's own keeper is
what inherits it from vmrun, so it is ended with the rest when the bridge goes."""


class Run:
    """A machine's process, and its keeper."""

    def __init__(self, tree: Tree, process: psutil.Process) -> None:
        self._tree = tree
        self.process = process
        self._is_ours = _descends_from_us(process)
        self._cpu_seconds = 0.0

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return is_alive(self.process)

    @property
    def other_pid(self) -> int | None:
        """The process, if it does not descend from us."""
        return None if self._is_ours else self.process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process so far."""
        if self.alive:
            self._cpu_seconds = max(self._cpu_seconds, own_cpu(self.process))
        return self._cpu_seconds

    async def end(self) -> None:
        """End the process and its keeper; returns when they are gone.

        :raise HypervisorError: it cannot be ended.
        """
        self.cpu_seconds()
        await kill(self.process)
        await self._tree.end()


async def start(vmx: Path, command: Sequence[str]) -> Run:
    """Have `command`, vmrun's, start the machine of this file.

    :raise CommandFailed: it was not started; nothing is left.
    """
    directory = vmx.parent
    said = directory / _SAID
    program = Program(
        name="vmrun",
        argv=("/bin/sh", "-c", _START, "sh", str(said), *command),
        slot=directory,
        cwd=directory,
        env=tuple(f"{name}={value}" for name, value in clean_environment().items()),
    )
    answer = asyncio.StreamReader()
    read, write = os.pipe()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(answer), os.fdopen(read, "rb", 0)
    )
    tree: Tree | None = None
    try:
        try:
            tree = tree_of(program, output=write)
            await tree.start()
        finally:
            os.close(write)
        status = await asyncio.wait_for(answer.read(), _STARTED_WITHIN_S)
        if status != b"0\n":
            raise _explained(end_of(said), end_of(directory / LOG))
        process = await asyncio.to_thread(process_of, vmx)
        if process is None:
            raise CommandFailed("vmrun has started the machine, and it is not there")
        return await asyncio.to_thread(Run, tree, process)
    except BaseException as error:
        if (left := await asyncio.to_thread(process_of, vmx)) is not None:
            await kill(left)
        if tree is not None:
            await tree.end()
        if isinstance(error, asyncio.TimeoutError):
            raise CommandFailed(f"vmrun has not started the machine in {_STARTED_WITHIN_S:g} seconds") from None
        raise
    finally:
        pipe.close()


def process_of(vmx: Path) -> psutil.Process | None:
    """Return the process that runs the machine of this file."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and Path(words[0]).name.startswith("vmware-vmx") and str(vmx) in words and is_alive(process):
            return process
    return None


def _descends_from_us(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return os.getpid() in (parent.pid for parent in process.parents())
    return False


def _explained(said: str, log: str) -> CommandFailed:
    """Return why the machine was not started, in the words of `vmbridge doctor` if it knows them."""
    from ..said import recognised

    finding = recognised(said) or recognised(log)
    known = "" if finding is None else f"{finding.sentence} "
    return CommandFailed(f"{known}vmrun failed at start: {said.strip()[-300:]}")
