"""Which processes there are and which descend from which: what Linux says in /proc.

Also read by the keeper, so it imports little.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

WITHIN_S = 2.0
"""So long a tree is looked through for processes that were started meanwhile; each time fewer of them can be."""

QUIET_LOOKS = 5

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
    for pid in _pids():
        if (found := process(pid)) is not None:
            yield found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(pid: int) -> list[Process]:
    """Return all that descends from a process, parents before children, also what has ended and was not waited for.

    One whose parent ends meanwhile may be missing.
    """
    return _below(pid, processes())


def _below(pid: int, found: Iterable[Process]) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for one in found:
        children.setdefault(one.parent, []).append(one)
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


def signal_all(keeper: int, number: int, between: Callable[[], object] = lambda: None) -> bool:
    """Send a signal to all that descends from `keeper`, and to what it starts meanwhile, each once; say whether in the
    end nothing was left out. `between` is called between two looks.

    A process that has been sent SIGSTOP starts no other, and what it had started before is seen the next time. Only one
    that was never seen alive may have left something unseen: so a look is the last if nothing was new in it and nothing
    went away under it, or if nothing was new for some time on a host where something always goes away.

    Process groups get it too: all of a group at one moment. Only the keeper's own is older than the family: it began a
    session, and no process can join a group of another session.
    """
    known: set[tuple[int, int]] = set()

    def strike(member: Process) -> None:
        if (member.pid, member.started) in known:
            return
        known.add((member.pid, member.started))
        if member.lives:
            try:
                if member.group != keeper:
                    os.killpg(member.group, number)
            except OSError:
                pass
            member.send(number)

    deadline, quiet = time.monotonic() + WITHIN_S, 0
    while time.monotonic() < deadline:
        before, vanished = len(known), False
        found: list[Process] = []
        reached = {keeper}
        for pid in _pids():
            if (one := process(pid)) is None:
                vanished = True
                continue
            found.append(one)
            if one.parent in reached:  # at once: one that lives on in its children is gone before all are read
                reached.add(pid)
                strike(one)
        for member in _below(keeper, found):
            strike(member)
        quiet = quiet + 1 if len(known) == before else 0
        if (quiet and not vanished) or quiet == QUIET_LOOKS:
            return True
        between()
    return False
