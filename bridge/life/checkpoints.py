"""What is known on disk of a machine's saved states, when the next one is due, and whether there is room for it.

A state counts when the record of it is on the disk, which is written when the hypervisor has concluded the saving. So
at every instant the record names only states that are whole. It names at most two, newest first: the last one, and the
one from which the machine came to it, which is known to work. An older one goes when a newer one is complete. Both lie
in one disk; the copy of an older disk, which it names too, is there for when that breaks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any

from protocol.files import write_atomic

from .accounting import Progress, Spent
from .disk_use import used_bytes

logger = getLogger(__name__)

FORMAT = "vmbridge-checkpoints 1"
COPY_EVERY = 20
"""So many checkpoints lie between two copies of the machine's disk: it is written twice then, and can be large."""

MOST_TRIES = 3
"""A state is given up for an older one after so many restores that led to nothing."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """One saved state of a machine.

    `seq` is the last command that the guest in it has seen. `progress` is the job's at that moment. `tries` counts the
    restores since then after which no guest has spoken, or whose machine failed before there was a newer state.
    """

    tag: str
    seq: int
    progress: Progress
    tries: int = 0


class Checkpoints:
    """The record of one machine's saved states, in a folder of the machine's own."""

    def __init__(self, folder: Path, description: Mapping[str, str]) -> None:
        """Read the record; what makes no sense, or was saved on another kind of machine, is no state.

        :raise OSError: it is there and cannot be read.
        """
        self._file = folder / RECORD
        self._description = dict(description)
        self._current: str | None = None
        self._works = False
        self.number = 0
        self.states: list[SavedState] = []
        self.copy: SavedState | None = None
        self._read()

    def _read(self) -> None:
        try:
            record = json.loads(self._file.read_bytes())
            self.number = int(record["number"])
            if record["format"] != FORMAT:
                logger.warning("checkpoints of another version are not used: %s", record["format"])
            elif record["description"] != self._description:
                logger.warning("checkpoints of another kind of machine are not used: %s", _difference(record, self))
            else:
                self.states, self.copy = _states(record)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("the record of checkpoints makes no sense and is not used: %r", error)

    @property
    def description(self) -> dict[str, str]:
        """What the machine is made of."""
        return self._description

    @property
    def known(self) -> list[SavedState]:
        """All states from which the job can go on, the one in the copy last."""
        return self.states if self.copy is None else [*self.states, self.copy]

    @property
    def copy_due(self) -> bool:
        """The disk was not copied for so many checkpoints that it should be with the next."""
        return self.number + 1 - (0 if self.copy is None else _number(self.copy.tag)) >= COPY_EVERY

    def next_tag(self) -> str:
        """Return a tag that was never used in this folder."""
        self.number += 1
        return f"{_TAG}{self.number}"

    def add(self, state: SavedState) -> None:
        """Record a state that is whole; on the disk when this returns.

        The one before it is the one from which the machine came. A newer one that could not be restored goes.

        :raise OSError: it could not be written; the record is as it was.
        """
        before = [known for known in self.states if known.tag == self._current]
        self._write([state, *before], self.copy)
        self._current, self._works = state.tag, False

    def copied(self, state: SavedState) -> None:
        """Record that a copy of the disk, with `state` in it as the newest, is whole and durable.

        :raise OSError: it could not be written; the record is as it was.
        """
        self._write(self.states, state)

    def put_back(self) -> None:
        """Record that the copy is the disk now, and what it holds all that there is.

        :raise OSError: it could not be written; the record is as it was.
        """
        self._write([] if self.copy is None else [self.copy], None)

    def tried(self, state: SavedState) -> None:
        """Record that `state` is about to be restored once more.

        :raise OSError: it could not be written.
        """
        self._count(state.tag, state.tries + 1)

    def restored(self, state: SavedState) -> None:
        """The machine goes on from `state`, though nobody knows whether its guest speaks."""
        self._current = state.tag

    def drop(self, state: SavedState) -> None:
        """Forget a state that cannot be restored.

        :raise OSError: it could not be written.
        """
        self._write([known for known in self.states if known.tag != state.tag], self.copy)

    def works(self) -> None:
        """Record that the guest of the restored state has spoken, or was given no time to: this was no try."""
        if not self._works:
            self._works = True
            self._judge_current(-1)

    def failed(self) -> None:
        """Record that the machine has failed, though its guest had spoken: if from the restored state, it was a try."""
        if self._works:
            self._works = False
            self._judge_current(+1)

    def _judge_current(self, change: int) -> None:
        """Change the tries of the restored state. If that fails, they just go on counting."""
        for known in self.states:
            if known.tag == self._current:
                try:
                    self._count(known.tag, max(0, known.tries + change))
                except OSError as error:
                    logger.warning("it cannot be noted how the restore went: %s", error)

    def _count(self, tag: str, tries: int) -> None:
        counted = [replace(known, tries=tries) if known.tag == tag else known for known in self.states]
        self._write(counted, self.copy)

    def spent(self) -> Spent:
        """Return the CPU time over all starts, as far as it was noted."""
        noted = read_spent(self._file.parent)
        for state in self.known:
            noted = noted.at_least(state.progress.spent)
        return noted

    def _write(self, states: list[SavedState], copy: SavedState | None) -> None:
        record = {
            "format": FORMAT,
            "number": self.number,
            "description": self._description,
            "states": [asdict(state) for state in states],
            "copy": None if copy is None else asdict(copy),
        }
        write_atomic(self._file, json.dumps(record, indent=1).encode(), durable=True)
        self.states, self.copy = states, copy


_TAG = "checkpoint-"
RECORD = "checkpoints.json"
SPENT = "spent"


def read_spent(folder: Path) -> Spent:
    """Return the CPU time that was noted in the machine's folder; none if nothing was."""
    try:
        return Spent(*map(float, (folder / SPENT).read_text("ascii").split(maxsplit=2)))
    except (OSError, ValueError):
        return Spent()


def note_spent(folder: Path, spent: Spent) -> None:
    """Note the CPU time so far. Not worth a sync: a power cut loses at most what was spent since the newest state."""
    try:
        text = f"{spent.host_s:.3f} {spent.guest_s:.3f} {spent.run_s:.3f}\n"
        write_atomic(folder / SPENT, text.encode(), durable=False)
    except OSError as error:
        logger.warning("the CPU time cannot be noted: %s", error)


def any_recorded(folder: Path) -> bool:
    """Say whether there is a record of saved states in the machine's folder."""
    return (folder / RECORD).is_file()


def recorded(folder: Path) -> tuple[list[SavedState], SavedState | None]:
    """Return the states that the record in `folder` names, for whatever kind of machine, and the one in the copy.

    :raise ValueError: the record cannot be read.
    """
    try:
        return _states(json.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(repr(error)) from error


def _states(record: Any) -> tuple[list[SavedState], SavedState | None]:
    copy = record["copy"]
    return [_state(entry) for entry in record["states"]], None if copy is None else _state(copy)


def _state(entry: Any) -> SavedState:
    progress = Progress(**entry["progress"])
    return SavedState(f"{_TAG}{_number(entry['tag'])}", int(entry["seq"]), progress, int(entry["tries"]))


def _number(tag: str) -> int:
    return int(tag.removeprefix(_TAG))


def _difference(record: Any, ours: Checkpoints) -> str:
    theirs = record["description"]
    keys = sorted({*theirs, *ours.description})
    return ", ".join(
        f"{key} was {theirs.get(key)!s:.40} and is {ours.description.get(key)!s:.40}"
        for key in keys
        if theirs.get(key) != ours.description.get(key)
    )


COST_FACTOR = 50.0
"""A machine stands still for at most one fiftieth of its time because of checkpoints."""

RETRY_S = 15.0
"""After a checkpoint that could not be taken; twice as long after each further one, up to the period."""


class Schedule:
    """When the next checkpoint is due, on a clock that goes only while the machine runs. Pure."""

    def __init__(self, period_s: float, now: float) -> None:
        self._period_s = period_s
        self._next = now + period_s
        self._retry_s = RETRY_S

    def due(self, now: float) -> bool:
        """Say whether one is due."""
        return now >= self._next

    def taken(self, now: float, cost_s: float) -> None:
        """One was taken, for which the machine stood still for `cost_s`."""
        self._next = now + max(self._period_s, cost_s * COST_FACTOR)
        self._retry_s = RETRY_S

    def failed(self, now: float) -> None:
        """One could not be taken."""
        self._next = now + min(self._period_s, self._retry_s)
        self._retry_s *= 2


RESERVE_BYTES = 100 << 20


def no_room(folder: Path, need_bytes: int, bound_bytes: float) -> str | None:
    """Say why `need_bytes` more do not fit: the disk is too full, or `bound_bytes` for all below `folder`'s parent.

    The client ends a job whose slot is larger than its bound; 0 is no bound. Sizes are what the client counts: the
    apparent ones.

    :raise OverBound: there are more files than can be counted.
    """
    there = os.statvfs(folder)
    if (free := there.f_bavail * there.f_frsize) < need_bytes + RESERVE_BYTES:
        return f"only {free >> 20:,} MiB are free, and it may need {need_bytes >> 20:,}"
    if bound_bytes and (used := used_bytes(folder.parent)) + need_bytes > bound_bytes:
        return (
            f"it may need {need_bytes >> 20:,} MiB beside {used >> 20:,} of the {int(bound_bytes) >> 20:,} of the job"
        )
    return None
