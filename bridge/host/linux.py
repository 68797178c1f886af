"""A program on Linux: below a keeper, a small process of its own (`keeper.py`), from which nothing can get away."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import marshal
import os
import shlex
import signal
import sys
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CommandFailed, HostError, JobFileError
from ..job.names import JOB_FILE
from .leftovers import MARK, end_marked, mark
from .processes import cpu_seconds, descendants, signal_all
from .program import NICENESS

if TYPE_CHECKING:
    from .keeper import Order
    from .program import Program

logger = getLogger(__name__)

_GONE_WITHIN_S = 30.0
"""The keeper takes 20 seconds at most; see there."""

_BE_KEEPER = "import sys; sys.path.insert(0, sys.argv[1]); from bridge.host.keeper import main; main()"

_PASSES = frozenset({0, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO,
                     errno.EINTR, errno.ETXTBSY})  # fmt: skip
"""Why a program cannot be started just now; any other reason is its own, or its job file's."""

_count = itertools.count(1)


class LinuxTree:
    """A program below a keeper of its own."""

    def __init__(self, program: Program, *, use_tstp: bool = False, output: int | None = None) -> None:
        """Streams without a file go to the descriptor `output`, which is used in `start` only, or to our own.

        Suspended is all of it. But with `use_tstp` it is told so by SIGTSTP, for which a program may prepare itself:
        then only the program is told, which may need those below it, or with `multi_process` all are.
        """
        self._program = program
        self._use_tstp = use_tstp
        self._output = output
        self._mark = mark(f"{os.getpid()}.{next(_count)}", program.slot)
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pid = -1
        self._cpu_seconds = 0.0
        self._gone = False

    @property
    def running(self) -> bool:
        return self._started.done() and not self._ended.done()

    async def start(self) -> None:
        program = self._program
        logger.info("starting %s", shlex.join(program.argv))
        out, err = (_copy(fd if self._output is None else self._output) for fd in (1, 2))
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-c", _BE_KEEPER, os.path.abspath(Path(__file__).parents[2])),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=(out, err),
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(f"{program.name} cannot be started: {error.strerror}") from error
        finally:
            os.close(out)
            os.close(err)
        self._listening = asyncio.create_task(self._listen(self._process))
        assert self._process.stdin is not None
        self._process.stdin.write(marshal.dumps(self._order(out, err)))
        try:
            await asyncio.shield(self._started)
        except BaseException:
            await self.end()
            raise

    def suspend(self) -> None:
        if self._gone or self._process is None:
            return
        if self._use_tstp:
            for member in descendants(self._process.pid):
                if self._program.multi_process or member.pid == self._pid:
                    member.send(signal.SIGTSTP)
        elif not signal_all(self._process.pid, signal.SIGSTOP):
            logger.warning("%s starts programs faster than they can be suspended", self._program.name)

    def resume(self) -> None:
        if not self._gone and self._process is not None:
            signal_all(self._process.pid, signal.SIGCONT)

    def ask(self) -> None:
        if not self._gone and self._process is not None:
            for member in descendants(self._process.pid):
                member.send(signal.SIGTERM)
            signal_all(self._process.pid, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        if not self._gone and self._process is not None:
            self._cpu_seconds = max(self._cpu_seconds, cpu_seconds(self._process.pid))
        return self._cpu_seconds

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def end(self) -> None:
        if self._process is None or self._listening is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._listening), _GONE_WITHIN_S)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._listening
        if not self._gone:
            left = await asyncio.to_thread(end_marked, lambda word: word == self._mark)
            if left:
                raise HostError(f"{self._program.name} cannot be ended: the processes {left} are still there")
            self._gone = True

    def _order(self, out: int, err: int) -> Order:
        program = self._program
        if program.env is None:
            env = dict(os.environb)
        else:
            env = dict(os.fsencode(setting).split(b"=", 1) for setting in program.env)
        env[MARK.encode()] = os.fsencode(self._mark)
        return (
            tuple(map(os.fsencode, program.argv)),
            env,
            os.fsencode(program.cwd),
            None if program.stdin is None else os.fsencode(program.stdin),
            out if program.stdout is None else os.fsencode(program.stdout),
            err if program.stderr is None else os.fsencode(program.stderr),
            None if program.priority is None else NICENESS[program.priority],
        )

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._hear(line.rstrip(b"\n"))
        await process.wait()
        lost = HostError(f"the process that watched over {self._program.name} was killed")
        for future in (self._started, self._ended):
            if not future.done():
                future.set_exception(lost)
                future.exception()  # it may be that nobody waits

    def _hear(self, line: bytes) -> None:
        what, _, rest = line.partition(b" ")
        if what == b"started" and not self._started.done():
            self._pid = int(rest)
            self._started.set_result(None)
        elif what == b"failed" and not self._started.done():
            number, _, file = rest.partition(b" ")
            problem = f"{self._program.name} cannot be started: {os.fsdecode(file)}: {os.strerror(int(number))}"
            passes = int(number) in _PASSES
            job_file = self._program.slot / JOB_FILE
            self._started.set_exception(
                CommandFailed(problem) if passes else JobFileError(job_file, 0, "application", problem)
            )
        elif what == b"ended":
            self._ended.set_result(int(rest))
        elif what in (b"gone", b"left"):
            self._cpu_seconds = max(self._cpu_seconds, float(rest))
            self._gone = what == b"gone"


def _copy(fd: int) -> int:
    """Return a descriptor of the same file, or of none, if `fd` is closed."""
    try:
        return os.dup(fd)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
