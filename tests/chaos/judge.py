"""What must hold after each end of the bridge, and when the job is over."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM

from bridge.slots import look

from . import job
from .slot import Slot

STDERR_BYTES = 40_000
_TEMPORARY = re.compile(r"^\..*\.tmp$|^\..*\.vmbridge$|^result$")
_LOST = re.compile(r"is recorded and is not in|is damaged")
_PASSES = ("not recorded; it goes at the next one", "was left behind by a write that did not end")
"""What `vmbridge check` tells of and the next start mends."""


@dataclass
class Known:
    """What was complete before the last start, and must not be lost.

    A power cut may lose a state of which nobody was told that it is taken, and the CPU time since the newest.
    """

    newest: int = 0
    told: int = 0
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """How one start ended.

    `asked` is whether it was told to quit, `cut` whether its own cleaning was made to fail, `power` whether what it had
    not made durable was lost.
    """

    code: int
    asked: bool
    cut: bool
    power: bool = False

    @property
    def killed(self) -> bool:
        """By a signal; by its own as well, where it came before anybody listened for it or when all was done."""
        return self.code == -SIGKILL or (self.asked and self.code == -SIGTERM)


def after_end(slot: Slot, end: End, known: Known) -> list[str]:
    """Judge the slot after one start has ended; `known` is brought up to date."""
    wrong = []
    if not slot.left_alone():
        wrong.append(f"still at work: {[process.cmdline()[:1] for process in slot.processes()]}")
    log = slot.log()
    if "Traceback" in slot.whole_log():
        wrong.append("a traceback in stderr.txt")
    if (size := len(slot.whole_log())) > STDERR_BYTES:
        wrong.append(f"{size} bytes in stderr.txt")
    wrong += _told(slot, end)
    wrong += _restored(log, known)
    wrong += _kept(slot, end, log, known)
    if not (end.killed or end.cut or end.power):
        wrong += _tidy(slot)
    return wrong


def _problems(slot: Slot) -> list[str]:
    """What `vmbridge check` finds. A thread of a QEMU that was killed may hold the disk for a moment longer."""
    until = time.monotonic() + 10
    found = look(slot.path).problems
    while any('"write" lock' in problem for problem in found) and time.monotonic() < until:
        time.sleep(0.1)
        found = look(slot.path).problems
    return found


def _told(slot: Slot, end: End) -> list[str]:
    """The client understands how it ended."""
    if end.killed:
        return []
    finished, temporary = slot.has("boinc_finish_called"), slot.has("boinc_temporary_exit")
    if finished:
        first = (slot.path / "boinc_finish_called").read_text().split("\n")[0]
        return [] if first == str(end.code) else [f"exit status {end.code}, finish file {first}"]
    if end.code != 0:
        return [f"exit status {end.code} without a finish file"]
    if temporary:
        delay, reason, *_ = (slot.path / "boinc_temporary_exit").read_text().split("\n")
        return [] if delay.isdecimal() and reason.strip() else ["a temporary exit without a reason"]
    return [] if end.asked or end.cut else ["it ended without a word to the client"]


def _restored(log: str, known: Known) -> list[str]:
    """It went on from the newest state that was complete before."""
    if "staging -> booting" not in log or not known.newest or "restores of" in log:
        return []
    restored = re.search(r"restored from checkpoint-(\d+)", log)
    if restored is None:
        began = "begins anew" in log or "booting -> running" in log
        return [f"began anew, though checkpoint-{known.newest} was complete"] if began else []
    if int(restored[1]) < known.newest:
        return [f"restored from checkpoint-{restored[1]}, though checkpoint-{known.newest} was complete"]
    return []


def _kept(slot: Slot, end: End, log: str, known: Known) -> list[str]:
    """Nothing complete is lost, and no CPU time, as long as the job is not home."""
    if slot.has(".vmbridge.home") or slot.has("boinc_finish_called"):
        return []
    wrong = []
    taken = [int(number) for number in re.findall(r"checkpoint checkpoint-(\d+) taken", log)]
    known.told = max([known.told, *taken])
    must = known.told if end.power else max(known.newest, known.told)
    known.newest = max([number for number, _ in slot.states()], default=0)
    if known.newest < must:
        wrong.append(f"checkpoint-{must} was taken, and the newest that is recorded is {known.newest or 'none'}")
    cpu = slot.noted_cpu()
    if cpu < known.cpu - 0.001 and not end.power:
        wrong.append(f"the CPU time went from {known.cpu:.2f} to {cpu:.2f}")
    known.cpu = cpu if end.power else max(cpu, known.cpu)
    return wrong + [problem for problem in _problems(slot) if _LOST.search(problem)]


def _tidy(slot: Slot) -> list[str]:
    """What the bridge is done with is gone."""
    names = set(os.listdir(slot.path))
    wrong = [f"{name} is left" for name in sorted(names & {"shared", ".vmbridge.lock", "boinc_lockfile"})]
    machine = set(os.listdir(slot.path / "machine")) if "machine" in names else set()
    wrong += [f"{name} is left" for name in sorted(names | machine) if _TEMPORARY.match(name)]
    copies = {name for name in machine if name.endswith(".copy.qcow2")}  # a stray one is a problem by itself
    if foreign := machine - copies - {"work.qcow2", "checkpoints.json", "spent", "forwarded.json", "accelerator"}:
        wrong.append(f"in machine/: {sorted(foreign)}")
    wrong += [problem for problem in _problems(slot) if not problem.endswith(_PASSES)]
    return wrong


def over(slot: Slot, *, killed_itself: bool, cut: bool) -> list[str]:
    """Judge the slot when the job is over: the right result, and nothing else left."""
    wrong = []
    names = set(os.listdir(slot.path))
    expected = job.OURS | {"boinc_finish_called"}
    first = (slot.path / "boinc_finish_called").read_text().split("\n")[0]
    if killed_itself:
        if first != str(job.SELF_KILLED):
            wrong.append(f"the program killed itself, and the client is told {first}")
        names -= {"out.txt"}
    else:
        expected |= {"out.txt", ".vmbridge.home"}
        if first != "0":
            wrong.append(f"the client is told {first}")
        elif (slot.path / "out.txt").read_text() != job.result():
            wrong.append("the result is wrong")
    if cut:
        names -= {"machine", "shared", ".vmbridge", ".vmbridge.lock", "boinc_lockfile"}
    if names != expected:
        wrong.append(f"left: {sorted(names - expected)}, missing: {sorted(expected - names)}")
    return wrong
