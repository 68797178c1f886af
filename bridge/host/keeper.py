"""The parent of one program: a process of its own, which is left only when all that descends from it has ended.

The kernel gives it what the program leaves behind, daemons and double forks (a child subreaper), so what descends from
it is this program's and nobody else's, what has ended has been counted by it, and no other part of the bridge can take
an end that somebody waits for. It ends everything when the program has ended, and when the pipe from the bridge closes:
because the bridge wants that, or because it was killed.

It imports next to nothing: there is one for every program. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import select
import signal
import sys
import time

from .processes import signal_all

ENDED_WITHIN_S = 20.0
"""What the kernel cannot end in this time waits for a disk, or is not ours any more."""

_LOOK_EVERY_MS = 100
_REAPED_WITHIN_S = 0.2
"""A fork bomb's processes end as fast as they are waited for."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

Order = tuple[
    tuple[bytes, ...],  # argv
    dict[bytes, bytes],  # environment
    bytes,  # working directory
    bytes | None,  # standard input
    bytes | int,  # standard output: a file, or a descriptor
    bytes | int,  # standard error
    int | None,  # niceness
]
"""What is to be run; marshalled, because both ends are the same Python. Paths are bytes, whatever they hold."""


class Keeper:
    """One program and its descendants."""

    def __init__(self, order: Order, lifeline: int, reports: int) -> None:
        """`lifeline` is a pipe that is closed when everything shall end; what happens is written to `reports`."""
        self._order = order
        self._lifeline = lifeline
        self._reports = reports
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._passed = {fd for fd in (order[4], order[5]) if isinstance(fd, int) and fd > 2}
        self._program = -1
        self._ending = False

    def run(self) -> None:
        """Start the program, and return when nothing of it is left."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        woken, wake = os.pipe()
        for fd in (woken, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        failure = self._start()
        poll = select.poll()
        for fd in (self._lifeline, woken, failure):
            poll.register(fd, select.POLLIN)
        while not self._ending:
            ready = {fd for fd, _ in poll.poll()}
            if woken in ready:
                _drain(woken)
            if failure in ready:
                poll.unregister(failure)
                self._tell(os.read(failure, 4096) or f"started {self._program}".encode())
            if self._lifeline in ready:
                self._ending = True
            self._reap()
        self._end_all(woken)

    def _end(self, *_: object) -> None:
        self._ending = True

    def _start(self) -> int:
        """Start the program; return a pipe that closes when it runs, or says why it does not."""
        for fd in self._passed:
            os.set_inheritable(fd, False)
        failure, fail = os.pipe()
        self._program = os.fork()
        if self._program == 0:
            try:
                self._become_program()
            except (OSError, ValueError) as error:
                number = error.errno if isinstance(error, OSError) else errno.EINVAL
                name = error.filename if isinstance(error, OSError) else None
                os.write(fail, b"failed %d %s" % (number or 0, os.fsencode(name or self._order[0][0])))
            finally:
                os._exit(127)
        os.close(fail)
        for fd in self._passed:
            os.close(fd)  # or whoever reads from it would wait for us, too
        return failure

    def _become_program(self) -> None:
        argv, env, cwd, stdin, stdout, stderr, niceness = self._order
        keeper = os.getppid()
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            return
        # A group of its own, in our session: SIGTSTP stops nobody whose group has no parent in its session.
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:  # the C library's own
                pass
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        out = _open(stdout, append) if isinstance(stdout, bytes) else stdout
        err = _open(stderr, append) if isinstance(stderr, bytes) else stderr
        os.dup2(_open(os.devnull.encode() if stdin is None else stdin, os.O_RDONLY), 0)
        # Neither may be overwritten before the other was copied.
        out, err = os.dup(out), os.dup(err)
        os.dup2(out, 1)
        os.dup2(err, 2)
        if niceness is not None:
            try:
                os.setpriority(os.PRIO_PROCESS, 0, niceness)
            except OSError:  # to be more urgent than its parent a process must be allowed
                pass
        os.chdir(cwd)
        os.execve(argv[0], argv, env)

    def _reap(self) -> bool:
        """Wait for what has ended; say whether nothing is left."""
        deadline = time.monotonic() + _REAPED_WITHIN_S
        while time.monotonic() < deadline:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._program:
                self._program, self._ending = -1, True
                self._tell(f"ended {os.waitstatus_to_exitcode(status)}".encode())
        return False

    def _end_all(self, woken: int) -> None:
        """End all that descends from us. First it stands still: it could become more faster than it is ended."""
        me = os.getpid()
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        deadline = time.monotonic() + ENDED_WITHIN_S
        gone = self._reap()
        if not gone:
            signal_all(me, signal.SIGSTOP, self._reap)
        while not gone and time.monotonic() < deadline:
            signal_all(me, signal.SIGKILL, self._reap)
            poll.poll(_LOOK_EVERY_MS)
            _drain(woken)
            gone = self._reap()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._tell(f"{'gone' if gone else 'left'} {usage.ru_utime + usage.ru_stime:.6f}".encode())

    def _tell(self, line: bytes) -> None:
        try:
            os.write(self._reports, line + b"\n")
        except OSError:  # the bridge is gone
            pass


def _open(file: bytes, flags: int) -> int:
    """Open a file without waiting for somebody at the other end, if it is a pipe."""
    fd = os.open(file, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    os.set_blocking(fd, True)
    return fd


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass


def main() -> None:
    """Be a keeper: the order comes by standard input, which is the lifeline then; reports go to standard output."""
    Keeper(marshal.load(sys.stdin.buffer), lifeline=0, reports=1).run()
