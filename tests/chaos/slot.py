"""The slot of one round, seen from outside: which step its job has reached, and what is recorded there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .plan import Cell, Step

DISK_BYTES = 750 << 20
"""So large is the disk of a slot that can be filled: room for the machine, three states and the bridge's reserve."""


@dataclass
class Told:
    """What came of a round."""

    wrong: list[str] = field(default_factory=list)
    hit: list[Cell] = field(default_factory=list)
    starts: int = 0
    story: list[str] = field(default_factory=list)
    quit_s: float = 0.0


@dataclass
class Slot:
    """One directory, and what was said in it since the last start."""

    path: Path
    log_from: int = 0
    record_from: int = 0
    seen: set[Step] = field(default_factory=set)

    def begin(self) -> None:
        """Another start begins."""
        self.log_from = len(self.whole_log())
        self.record_from = self._record_stamp()
        self.seen.clear()

    def whole_log(self) -> str:
        """All that the bridge has said."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / "stderr.txt").read_text(errors="replace")
        return ""

    def log(self) -> str:
        """What it has said since the last start."""
        return self.whole_log()[self.log_from :]

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def _read(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.path / name).read_text(errors="replace")
        return ""

    def _record_stamp(self) -> int:
        with contextlib.suppress(OSError):
            return (self.path / "machine/checkpoints.json").stat().st_mtime_ns
        return 0

    def reached(self, step: Step) -> bool:
        """Say whether the job is at `step` now, or has just been."""
        match step:
            case Step.STAGING:
                return self.has("shared")
            case Step.BOOT:
                return "staging -> booting" in self.log()
            case Step.RESTORE:
                return self.record_from != 0 and "staging -> booting" in self.log()
            case Step.RUN:
                return "-> running" in self.log()
            case Step.LEAVE:
                return "running -> leaving" in self.log()
            case Step.PREPARE:
                return "state prepare" in self._read("shared/host/command")
            case Step.SAVE:
                seq = re.search(r"^seq (\d+)$", self._read("shared/host/command"), re.M)
                said = self._read("shared/guest/status")
                return self.reached(Step.PREPARE) and seq is not None and f"ack {seq[1]}\n" in said
            case Step.COMMIT:
                return self.reached(Step.RUN) and "taken" in self.log()
            case Step.COLLECT:
                return "-> collecting" in self.log()
            case Step.HOME:
                return self.has(".vmbridge.home")
            case Step.REMOVE:
                return "-> removing" in self.log()
            case Step.FINISH:
                return "finished with code" in self.log()

    def states(self) -> list[tuple[int, float]]:
        """Number and CPU time of each recorded state, newest first."""
        try:
            record = json.loads(self._read("machine/checkpoints.json"))
        except ValueError:
            return []
        return [(int(one["tag"].split("-")[1]), float(one["progress"]["cpu_seconds"])) for one in record["states"]]

    def noted_cpu(self) -> float:
        """The CPU time that the next start knows of."""
        with contextlib.suppress(ValueError):
            return max([float((self._read("machine/spent") or "0").split()[0]), *(cpu for _, cpu in self.states())])
        return 0.0

    def processes(self) -> list[psutil.Process]:
        """All processes on this host that name this slot, or hold one of its files open while they end."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = process.info["cmdline"] or []
            if str(self.path) in " ".join(words) or process.info["cwd"] == str(self.path):
                found.append(process)
        return found

    def left_alone(self, within_s: float = 30.0) -> bool:
        """Wait until no process is at work here any more."""
        until = time.monotonic() + within_s
        while self.processes():
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        return True


class Ballast:
    """A folder on a file system of its own, which can be filled and emptied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path / "ballast"

    @staticmethod
    def possible() -> bool:
        """Say whether this user may mount."""
        return os.geteuid() == 0 and os.path.exists("/bin/mount") and _may_mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(self._path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self._path)], check=False)

    def fill(self) -> None:
        with self._file.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        with self._file.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1)):
                pass

    def enlarge(self) -> None:
        """Make room for all that the job can ever want."""
        subprocess.run(["mount", "-o", f"remount,size={4 * DISK_BYTES}", str(self._path)], check=True)

    def empty(self) -> None:
        self._file.unlink(missing_ok=True)


def _may_mount() -> bool:
    # In a mount namespace of its own, which goes with the process.
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0
