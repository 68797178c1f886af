"""One round: start the job, do harm, start it again until it is over; collect what was wrong and what was hit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil

from . import job, judge
from .plan import Fault, Harm, Plan, Step
from .power import Power
from .slot import Ballast, Slot, Told

DEADLINE_S = 300.0
"""So long may one start take on a busy host; a job without harm takes eight seconds."""

QUIT_WITHIN_S = 60.0
PEACEFUL_STARTS = 6
"""So often it is started without harm until it must be over."""

_LOOK_S = 0.004


class Round:
    """One round in `directory`, which is made. `libraries` is where what is preloaded was `compiled`."""

    def __init__(self, plan: Plan, directory: Path, libraries: Path, quit_within_s: float = QUIT_WITHIN_S) -> None:
        self._plan = plan
        self._quit_within_s = quit_within_s
        disk = directory / "disk"
        self._slot = Slot(disk / "slot")
        self._hit = directory / "hit"
        self._clock = directory / "clock"
        self._libraries = libraries
        self._disk = Ballast(disk) if any(_needs_disk(fault) for fault in plan.faults) else None
        # Of each start up to the last cut: what a kill has left in the kernel's cache, the next cut may lose.
        self._cuts = sum(fault.harm is Harm.POWER for fault in plan.faults)
        self._power = Power(self._slot.path, disk)
        self._random = Random(plan.seed)
        self._known = judge.Known()
        self._killed_itself = False
        self._cut = False
        self.told = Told()

    def run(self) -> Told:
        """Live through all of it."""
        self._slot.path.parent.mkdir(parents=True)
        with self._on_disk():
            self._slot.path.mkdir()
            job.make(self._slot.path)
            for fault in self._plan.faults:
                if self._over():
                    break
                self._start(fault)
            if self._disk is not None:
                self._disk.enlarge()
            for _ in range(PEACEFUL_STARTS):
                if self._over() or self.told.wrong:
                    break
                self._start(None)
            if self._over():
                self.told.wrong += judge.over(self._slot, killed_itself=self._killed_itself, cut=self._cut)
            elif not self.told.wrong:
                self.told.wrong.append(f"not over after {PEACEFUL_STARTS} starts in peace")
        return self.told

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        if self._disk is None:
            yield
            return
        self._disk.mount()
        try:
            yield
            if self.told.wrong:  # keep what cannot stay where it is
                shutil.copytree(self._slot.path, self._slot.path.parent.with_name("kept"), symlinks=True)
        finally:
            self._disk.unmount()

    def _over(self) -> bool:
        return self._slot.has("boinc_finish_called")

    def _start(self, fault: Fault | None) -> None:
        """Start the bridge, do the harm, wait for its end, judge."""
        slot = self._slot
        (slot.path / "boinc_temporary_exit").unlink(missing_ok=True)  # as the client does
        (slot.path / "order").write_text(f"{fault.order if fault is not None and fault.order else 'none'}\n")
        self._hit.unlink(missing_ok=True)
        self._clock.write_bytes(struct.pack("=q", 0))
        slot.begin()
        with (slot.path / "stderr.txt").open("a") as stderr:
            process = subprocess.Popen(job.APP, stderr=stderr, env=self._environment(fault), cwd=slot.path)
        self.told.starts += 1
        asked = self._harm(process, fault)
        hung = False
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
            process.wait()
        if self._disk is not None:
            self._disk.empty()
        self._note(fault, asked, process.returncode)
        if hung:
            self.told.wrong.append(f"start {self.told.starts} did not end in {DEADLINE_S:.0f} seconds")
        cut = fault is not None and (fault.harm is Harm.FULL or (fault.call is not None and self._hit.exists()))
        end = judge.End(process.returncode, asked is not None, cut, self._lose_power(fault))
        self._cut = cut or end.killed or end.power
        self.told.wrong += [
            f"start {self.told.starts}: {problem}" for problem in judge.after_end(slot, end, self._known)
        ]

        if fault is not None and fault.harm is Harm.CLOCK and asked is None and not end.killed and not self._over():
            self.told.wrong.append(f"start {self.told.starts} did not come to its end when the clock jumped")

    def _lose_power(self, fault: Fault | None) -> bool:
        """Lose what was not durable, if `fault` was a power cut that came."""
        if fault is None or fault.harm is not Harm.POWER:
            return False
        self._cuts -= 1
        if (fault.step, fault.harm) not in self.told.hit:
            return False
        self._slot.left_alone()
        lost = self._power.cut(self._random)
        self.told.story.append(f"    lost: {', '.join(lost) or 'nothing'}")
        return True

    def _environment(self, fault: Fault | None) -> dict[str, str]:
        environment = job.environment()
        preloaded = []
        if fault is not None and fault.call is not None:
            call = fault.call
            preloaded.append("calls")
            environment["CHAOS_CALL"] = f"{call.operation} {call.number} {fault.how} {call.times} {call.path}"
            environment["CHAOS_HIT"] = str(self._hit)
        if self._cuts:
            preloaded.append("power")  # after `calls`, so that it sees what the process did before it died
            environment |= self._power.environment()
        if fault is not None and fault.harm is Harm.CLOCK:
            preloaded.append("clock")
            environment["CHAOS_CLOCK"] = str(self._clock)
        environment["LD_PRELOAD"] = " ".join(str(self._libraries / f"{name}.so") for name in preloaded)
        return environment

    def _note(self, fault: Fault | None, asked: float | None, code: int) -> None:
        hit = ""
        if fault is not None:
            if fault.call is not None and self._hit.exists():
                self.told.hit.append((fault.step, fault.harm))
            hit = f": {fault}" + ("" if (fault.step, fault.harm) in self.told.hit else " (missed)")
        if asked is not None:
            took_s = time.monotonic() - asked
            self.told.quit_s = max(self.told.quit_s, took_s)
            if took_s > self._quit_within_s:
                self.told.wrong.append(f"start {self.told.starts} took {took_s:.0f} seconds to quit")
        self.told.story.append(f"start {self.told.starts}{hit}; it ended with {code}")
        if fault is not None and fault.order == "self" and self._over():
            self._killed_itself = "code 137" in self._slot.log()

    # Harm

    def _harm(self, process: subprocess.Popen[bytes], fault: Fault | None) -> float | None:
        """Do what `fault` says when its step is reached; return when the bridge was told to quit, if it was."""
        if fault is None:
            return None
        if fault.step is Step.LEAVE:
            if not self._wait_for(process, Step.RUN):
                return None
            time.sleep(fault.delay)
            process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            if fault.call is None:
                self._do(process, fault)
            return asked
        if fault.call is not None:
            return None
        return self._do(process, fault)

    def _wait_for(self, process: subprocess.Popen[bytes], step: Step) -> bool:
        until = time.monotonic() + DEADLINE_S
        while not self._slot.reached(step):
            if process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(_LOOK_S)
        return True

    def _do(self, process: subprocess.Popen[bytes], fault: Fault) -> float | None:
        if not self._wait_for(process, fault.step):
            return None
        if fault.harm is Harm.GUEST:  # the program obeys in the middle of its work
            self.told.hit.append((fault.step, fault.harm))
            return None
        time.sleep(fault.delay)
        if process.poll() is not None:
            return None
        asked = None
        match fault.harm:
            case Harm.BRIDGE | Harm.POWER:
                process.kill()
            case Harm.CLOCK:
                with self._clock.open("r+b") as file:  # in place: it is mapped
                    file.write(struct.pack("=q", fault.jump))
            case Harm.MACHINE:
                if not _kill_machine(process):
                    return None
            case Harm.QUIT | Harm.QUIT_KILL:
                process.send_signal(signal.SIGTERM)
                asked = time.monotonic()
                if fault.harm is Harm.QUIT_KILL:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(fault.lasts)
                    process.kill()
            case Harm.FULL:
                assert self._disk is not None
                self._disk.fill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(fault.lasts)
                self._disk.empty()
        self.told.hit.append((fault.step, fault.harm))
        return asked


def _needs_disk(fault: Fault) -> bool:
    return fault.harm is Harm.FULL or fault.order == "fill"


def _kill_machine(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children():
            if "qemu-system" in child.name():
                child.kill()
                return True
    return False


def compiled(folder: Path) -> Path:
    """Compile what is preloaded into `folder`, and return that."""
    for source in Path(__file__).parent.glob("*.c"):
        library = folder / f"{source.stem}.so"
        words = ["cc", "-shared", "-fPIC", "-O1", "-o", os.fspath(library), os.fspath(source), "-ldl", "-lpthread"]
        subprocess.run(words, check=True)
    return folder
