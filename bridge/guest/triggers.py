"""The trickles and uploads of a plain guest, as numbered files (`Letters`): of its trigger files, the next whole one.

A trickle is moved out of the share, to a name in the machine's folder that has its number: from then on the guest can
neither change it nor be asked for it again, and has the name for its next one. So whatever is killed at whatever
instant, it is at one place. An upload stays where it is, and each name counts once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from pathlib import Path

from protocol.codec import MAX_BYTES
from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_folder, write_atomic
from protocol.layout import TRICKLE_UP, UPLOAD, Share
from protocol.messages import Message, TrickleUp, Upload

from ..job import PlainGuest
from ..trees import remove_tree
from .steady import EMPTY_S, STEADY_S, Steady

logger = getLogger(__name__)

_TAKEN_OUT = "trickle."

UPLOAD_STEADY_S = 10.0
"""Nothing says when a file that is to be uploaded is complete."""


class TriggerFiles:
    """What one guest sends. `clock` stands still with its machine; `asked` are the uploads that it has asked for."""

    out = ""

    def __init__(
        self, share: Share, guest: PlainGuest, machine: Path, clock: Callable[[], float], asked: list[str]
    ) -> None:
        """:raise OSError: a folder cannot be read."""
        self._shared = share.guest
        self._machine = machine
        self._clock = clock
        self._trickles = guest.trickle_trigger_files
        self._uploads = guest.intermediate_upload_files
        self._asked = list(asked)
        self._taken_out = {number: name for name in os.listdir(machine) if (number := _number(name))}
        self._steady: dict[str, Steady] = {}
        self._complaints: dict[str, str] = {}
        self._deaf = False
        self.door = Door(share.guest)

    def close(self) -> None:
        """Look no more. May be called again."""
        self.door.close()

    def is_there(self, kind: str, number: int) -> bool:
        """Say whether the guest may have something under this number."""
        if kind == TRICKLE_UP:
            return number in self._taken_out or any(map(self.door.is_there, self._trickles))
        return kind == UPLOAD and any(map(self.door.is_there, self._not_asked()))

    def read(self, kind: str, number: int, now: float, *, over: bool = False) -> Message | None:
        """Return the message `number` of this kind once there is one; with `over` nobody writes any more.

        :raise OSError: it cannot be read.
        """
        if kind == TRICKLE_UP:
            return self._trickle(number, over)
        if kind != UPLOAD:
            return None
        if number > len(self._asked):
            name = self._next_upload(over)
            if name is None:
                return None
            self._asked.append(name)
        return Upload(self._asked[number - 1])

    def _trickle(self, number: int, over: bool) -> TrickleUp | None:
        if number not in self._taken_out and not self._take_out(number, over):
            return None
        file = self._machine / self._taken_out[number]
        with file.open("rb") as opened:
            text = without_controls(opened.read(MAX_BYTES).decode("utf-8", "replace"))
        return TrickleUp(file.name.split(".", 2)[2], tuple(text.split("\n")))

    def _take_out(self, number: int, over: bool) -> bool:
        """Move the next whole trickle out of the share; say whether there was one."""
        for name in self._trickles:
            try:
                text = self.door.read(name, MAX_BYTES)
            except RemoteProtocolError as error:
                self._complain(name, str(error))
                continue
            wait_s = STEADY_S if text else EMPTY_S
            if not self._of(name).is_whole(text, self._clock(), 0.0 if over else wait_s) or text is None:
                continue
            target = self._machine / f"{_TAKEN_OUT}{number}.{name}"
            self.door.take_out(name, target)
            if not target.is_file():  # the guest has put something else there meanwhile
                remove_tree(target)
                continue
            self._taken_out[number] = target.name  # it has gone from the share, also if the disk is full now
            del self._steady[name]
            write_atomic(target, text, durable=True)  # or has just begun to write another one over it
            sync_folder(self._shared)
            return True
        return False

    def _next_upload(self, over: bool) -> str | None:
        for name in self._not_asked():
            if self._of(name).is_whole(self.door.stamp(name), self._clock(), 0.0 if over else UPLOAD_STEADY_S):
                return name
        return None

    def _not_asked(self) -> list[str]:
        return [name for name in self._uploads if name not in self._asked]

    def _of(self, name: str) -> Steady:
        return self._steady.setdefault(name, Steady())

    def _complain(self, name: str, problem: str) -> None:
        if self._complaints.get(name) != problem:
            self._complaints[name] = problem
            logger.warning("the guest's trickle %s is not taken: %s", name, problem)

    def taken(self, trickle_up: int, upload: int, saved: int | None = None) -> None:
        """Forget the trickles that have been taken for good.

        :raise OSError: they could not be deleted.
        """
        for number in [number for number in self._taken_out if number <= trickle_up]:
            with suppress(FileNotFoundError):
                (self._machine / self._taken_out[number]).unlink()
            del self._taken_out[number]

    def trickle_down(self, number: int, text: str) -> None:
        """There is no file in which such a guest would look for a message of the project."""
        if not self._deaf:
            logger.warning("the guest has no way to hear messages of the project")
        self._deaf = True

    def uploaded(self, number: int, status: int) -> None:
        """The guest does not ask; the log says it."""
        logger.info("the upload of %s has ended with status %d", self._asked[number - 1], status)


def without_controls(text: str) -> str:
    """Return a guest's text without what a terminal would obey or what ends a text early; the protocol allows none."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _number(name: str) -> int:
    """Return the number of a trickle that was taken out, 0 for other names."""
    number, _, trickle = name.removeprefix(_TAKEN_OUT).partition(".")
    return int(number) if name.startswith(_TAKEN_OUT) and number.isdecimal() and trickle else 0
