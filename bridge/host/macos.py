"""A program on a Unix without child subreapers: what belongs to it is found by looking, again and again.

A process belongs to it that descends from it, or from another that was seen to, or that has its mark in its
environment. What was born and has ended between two looks was not seen, nor its CPU time. When the bridge is killed the
program lives on until the next start of the job (`leftovers`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ..errors import CommandFailed, HostError
from .leftovers import MARK, mark, marked
from .program import NICENESS

if TYPE_CHECKING:
    from .program import Program

logger = getLogger(__name__)

_ENDED_WITHIN_S = 20.0
_BETWEEN_S = 0.02
_LOOKS = 100
"""So often a tree is looked through for what was started meanwhile."""

_count = itertools.count(1)


class MacTree:
    """A program that is looked after from outside."""

    def __init__(
        self,
        program: Program,
        *,
        use_tstp: bool = False,
        output: int | None = None,
        with_mark: Callable[[Callable[[str], bool]], Iterable[psutil.Process]] = marked,
    ) -> None:
        """`use_tstp` and `output` are as for every tree; `with_mark` finds the processes with a mark."""
        self._program = program
        self._use_tstp = use_tstp
        self._output = output
        self._with_mark = with_mark
        self._mark = mark(f"{os.getpid()}.{next(_count)}", program.slot)
        self._process: asyncio.subprocess.Process | None = None
        self._known: set[psutil.Process] = set()
        self._cpu_seconds: dict[psutil.Process, float] = {}

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        program = self._program
        logger.info("starting %s", shlex.join(program.argv))
        env = os.environ if program.env is None else dict(setting.split("=", 1) for setting in program.env)
        try:
            with contextlib.ExitStack() as files:
                self._process = await asyncio.create_subprocess_exec(
                    *program.argv,
                    cwd=program.cwd,
                    env={**env, MARK: self._mark},
                    stdin=files.enter_context(open(os.devnull if program.stdin is None else program.stdin, "rb")),
                    stdout=self._stream(program.stdout, files),
                    stderr=self._stream(program.stderr, files),
                    preexec_fn=_in_a_group_of_its_own,
                )
        except OSError as error:
            what = f"{error.filename or program.argv[0]}: {error.strerror}"
            raise CommandFailed(f"{program.name} cannot be started: {what}") from error
        if program.priority is not None:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS[program.priority])
        with contextlib.suppress(psutil.Error):
            self._known.add(psutil.Process(self._process.pid))

    def suspend(self) -> None:
        if self._use_tstp and self._process is not None:
            for process in self._family():
                if self._program.multi_process or process.pid == self._process.pid:
                    _send(process, signal.SIGTSTP)
            return
        seen: set[psutil.Process] = set()
        for _ in range(_LOOKS):
            new = self._family() - seen
            if not new:
                return
            for process in new:
                _send(process, signal.SIGSTOP)
            seen |= new
        logger.warning("%s starts programs faster than they can be suspended", self._program.name)

    def resume(self) -> None:
        for process in self._family():
            _send(process, signal.SIGCONT)

    def ask(self) -> None:
        for number in (signal.SIGTERM, signal.SIGCONT):
            for process in self._family():
                _send(process, number)

    def cpu_seconds(self) -> float:
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu_seconds[process] = max(self._cpu_seconds.get(process, 0.0), times.user + times.system)
        return sum(self._cpu_seconds.values())

    async def wait(self) -> int:
        assert self._process is not None, "start() comes first"
        return await self._process.wait()

    async def end(self) -> None:
        if self._process is None:
            return
        self.cpu_seconds()
        deadline = time.monotonic() + _ENDED_WITHIN_S
        while left := self._family():
            if time.monotonic() > deadline:
                pids = sorted(process.pid for process in left)
                raise HostError(f"{self._program.name} cannot be ended: the processes {pids} are still there")
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for process in left:
                    _send(process, number)
            await asyncio.sleep(_BETWEEN_S)
        await self._process.wait()

    def _family(self) -> set[psutil.Process]:
        """Return all that belongs to the program and lives."""
        if self._process is None:
            return set()
        found = set(self._with_mark(lambda word: word == self._mark))
        for process in self._known:
            with contextlib.suppress(psutil.Error):
                found.update(process.children(recursive=True))
        self._known = {process for process in self._known | found if _lives(process)}
        return set(self._known)

    def _stream(self, file: Path | None, files: contextlib.ExitStack) -> Any:
        return self._output if file is None else files.enter_context(open(file, "ab"))


def _in_a_group_of_its_own() -> None:
    os.setpgid(0, 0)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):  # which compares when a process was started
        process.send_signal(number)
