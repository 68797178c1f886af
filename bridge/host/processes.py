"""Which processes there are and which descend from which: what Linux says in /proc.

Also read by the keeper, so it imports little.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

ROUNDS = 200
"""How often a tree is looked through for processes that were started meanwhile; each time fewer of them can be."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_GONE = b"ZX"


class Process:
    """What /proc said of a process at one moment.

    With `started`, in ticks since the host's start, its number cannot be mistaken for a later process' of the same one.
    `waited_s` is the CPU time of those of its children that it has waited for, and of theirs.
    """

    __slots__ = ("group", "parent", "pid", "started", "state", "waited_s")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.waited_s = (int(fields[13]) + int(fields[14])) / _TICKS_PER_S
        self.started = int(fields[19])

    @property
    def lives(self) -> bool:
        """It is more than an entry that its parent has not read yet."""
        return self.state not in _GONE

    def again(self) -> Process | None:
        """Return what is said of it now, None if it is gone."""
        now = process(self.pid)
        return now if now is not None and now.started == self.started else None

    def own_cpu_s(self) -> float:
        """Return the CPU time of its own threads, also of those that have ended."""
        try:
            return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0.0

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there and may be sent one by us."""
        if self.again() is not None:
            try:
                os.kill(self.pid, number)
            except OSError:
                pass


def process(pid: int) -> Process | None:
    """Return what is said of a process, None if there is none of this number."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        said = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    return Process(pid, said.rpartition(b")")[2].split())  # a program's name may hold anything


def processes() -> Iterator[Process]:
    """Return all processes of this host."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := process(int(name))) is not None:
            yield found


def descendants(pid: int) -> list[Process]:
    """Return all that descends from a process, parents before children, also what has ended and was not waited for.

    One whose parent ends meanwhile may be missing.
    """
    children: dict[int, list[Process]] = {}
    for found in processes():
        children.setdefault(found.parent, []).append(found)
    family: list[Process] = children.get(pid, [])
    for member in family:  # which grows meanwhile
        family.extend(children.get(member.pid, ()))
    return family


def cpu_seconds(keeper: int) -> float:
    """Return the CPU time of all that descends and has ever descended from the process `keeper`, without its own.

    A process hands its time up when it is waited for: so parents are read before children, and nothing counts twice.
    """
    family = descendants(keeper)
    first = process(keeper)
    total = 0.0 if first is None else first.waited_s
    for member in family:
        if (now := member.again()) is not None:
            total += now.waited_s + now.own_cpu_s()
    return total


def send_all(keeper: int, family: list[Process], number: int) -> None:
    """Send a signal to each of `family`, which descends from `keeper`, and to all of its process groups.

    A group gets it at one moment, with all that its members start meanwhile. Only the keeper's own is older than the
    family: it began a session, and no process can join a group of another session.
    """
    for group in {member.group for member in family} - {keeper}:
        try:
            os.killpg(group, number)
        except OSError:
            pass
    for member in family:
        member.send(number)


def halt(keeper: int) -> bool:
    """Let all that descends from `keeper` stand still; say whether that could be.

    Once a process has been sent SIGSTOP it starts no other, and what it had started before is seen the next time.
    """
    known: set[tuple[int, int]] = set()
    for _ in range(ROUNDS):
        family = [member for member in descendants(keeper) if member.lives]
        new = [member for member in family if (member.pid, member.started) not in known]
        if not new:
            return True
        known.update((member.pid, member.started) for member in new)
        send_all(keeper, new, signal.SIGSTOP)
    return False


def go_on(keeper: int) -> None:
    """Let all that descends from `keeper` run again."""
    standing = [member for member in descendants(keeper) if member.lives]
    for _ in range(ROUNDS):
        if not standing:
            return
        send_all(keeper, standing, signal.SIGCONT)
        standing = [member for member in descendants(keeper) if member.state == b"T"]
