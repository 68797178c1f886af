"""Trickles and early uploads as the client knows them: files with fixed names in the slot, and a word in the mailbox.

The client takes `trickle_up.xml`, of which there can be only one, when it is told, and names it by the second; so one
goes after the other, a second apart. An empty `boinc_ufr_NAME` asks it to upload an output, `boinc_ufs_NAME` is its
answer. A message of the project is a file `trickle_down_TIME`. (boinc-runtime facts, "Trickles and intermediate
uploads".)

What waits for its turn lies in the slot under names of ours, and gets the client's name by a rename: at no instant is
it there twice, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from logging import getLogger
from pathlib import Path

from protocol.files import sync_file, sync_folder, write_atomic

logger = getLogger(__name__)

TRICKLE_UP = "trickle_up.xml"
_DOWN = "trickle_down_"
_REQUEST = "boinc_ufr_"
_ANSWER = "boinc_ufs_"
_WAITING_TRICKLE = ".vmbridge.trickle_up."
_WAITING_UPLOAD = ".vmbridge.upload."
_KEPT_DOWN = ".vmbridge.trickle_down."

APART_S = 1.0
TELL_AGAIN_S = 5.0
"""A client that has read the mailbox and left the file is told again."""

WAITING_MOST = 32
STILL_S = 0.5
"""A file of the client's that was written more recently may not be complete."""

_ANSWER_BYTES = 4096
HAVE_TRICKLE = "<have_new_trickle_up/>\n"
HAVE_UPLOAD = "<have_new_upload_file/>\n"


class Pace:
    """When the one file may be written, and when the client must be told of it. Pure; `now` is any steady clock's."""

    def __init__(self, now: float, *, lies_there: bool) -> None:
        """The client may have taken one just before we came."""
        self._gone_at = now
        self._lies_there = lies_there
        self._told_at: float | None = None

    @property
    def lies_there(self) -> bool:
        """The last one has not been taken."""
        return self._lies_there

    def look(self, now: float, *, lies_there: bool) -> bool:
        """Note whether the file is there; return whether it has just been taken."""
        taken = self._lies_there and not lies_there
        if taken:
            self._gone_at = now
        self._lies_there = lies_there
        return taken

    def may_write(self, now: float) -> bool:
        """The last one is gone, long enough."""
        return not self._lies_there and now - self._gone_at >= APART_S

    def failed(self, now: float) -> None:
        """It could not be written: as if one had just been taken."""
        self._gone_at = now

    def wrote(self) -> None:
        """The file is there now."""
        self._lies_there = True
        self._told_at = None

    def must_tell(self, now: float) -> bool:
        """The client does not know, or seems to have forgotten."""
        return self._lies_there and (self._told_at is None or now - self._told_at >= TELL_AGAIN_S)

    def told(self, now: float) -> None:
        """The client was told."""
        self._told_at = now


class Trickles:
    """The slot's trickles and uploads. What stages or asks may be called in a thread, the rest in the event loop."""

    def __init__(self, slot: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot = slot
        self._clock = clock
        self._path = slot / TRICKLE_UP
        self._pace = Pace(clock(), lies_there=self._path.exists())
        self._waiting: deque[int] = deque()
        self._released = (0, 0)
        self._ours: dict[str, bytes] = {}
        self._requests: dict[str, float | None] = {}
        self._moved_at = clock()
        self._trouble = ""

    # A life's Project

    def begin(self, staged: tuple[int, int] | None) -> tuple[int, int]:
        """Go on with what an earlier process left; what is higher than `staged` is forgotten, as it comes again.

        :raise OSError: the slot cannot be read.
        """
        names = os.listdir(self._slot)
        trickles = [int(name[len(_WAITING_TRICKLE) :]) for name in names if _is_numbered(name, _WAITING_TRICKLE)]
        uploads = [_upload_number(name) for name in names if _upload_number(name)]
        known = (max(trickles, default=0), max(uploads, default=0)) if staged is None else staged
        for number in trickles:
            if number > known[0]:
                self._trickle(number).unlink()
        for name in names:
            if _upload_number(name) > known[1]:
                (self._slot / name).unlink()
        self._waiting = deque(sorted(number for number in trickles if number <= known[0]))
        self._requests = dict.fromkeys(name for name in names if name.startswith(_REQUEST))
        self._released = known[0], 0
        return known

    def room(self) -> bool:
        """Not too many wait."""
        return len(self._waiting) < WAITING_MOST

    def stage_trickle(self, number: int, variety: str, text: str) -> None:
        """Keep a trickle durably until it is its turn.

        :raise OSError: it could not be kept.
        """
        write_atomic(self._trickle(number), _trickle_up(variety, text), durable=True)

    def stage_upload(self, number: int, name: str) -> None:
        """Keep the request for an upload of the output `name`.

        :raise OSError: it could not be kept.
        """
        # An answer to an earlier request, of a job that began anew since, is none to this one.
        (self._slot / f"{_ANSWER}{name}").unlink(missing_ok=True)
        write_atomic(self._slot / f"{_WAITING_UPLOAD}{number}.{name}", b"", durable=True)

    def release(self, trickle: int, upload: int) -> None:
        """Send what is staged, up to these numbers.

        :raise OSError: an upload could not be requested now; what was not sent is sent when this is called again.
        """
        trickles, uploads = self._released
        self._waiting.extend(range(trickles + 1, trickle + 1))
        self._released = max(trickle, trickles), uploads
        if upload > uploads:
            self._request_uploads(upload)
            self._released = self._released[0], upload

    def _request_uploads(self, upto: int) -> None:
        for name in sorted(os.listdir(self._slot)):
            if 0 < _upload_number(name) <= upto:
                request = _REQUEST + name[len(_WAITING_UPLOAD) :].partition(".")[2]
                (self._slot / name).replace(self._slot / request)
                self._requests[request] = None

    def has_news(self) -> bool:
        """Say whether the client has put a message of the project into the slot."""
        return any(name.startswith(_DOWN) for name in os.listdir(self._slot))

    def trickles_down(self, after: int) -> dict[int, str]:
        """Return the messages of the project from number `after` + 1 on, in the order in which it sent them.

        Each gets a name of ours, and stays for a machine that begins anew or goes back to a checkpoint. The word in the
        mailbox is not waited for: it would say no more than the file does.

        :raise OSError: the slot cannot be read or written.
        """
        names = os.listdir(self._slot)
        numbers = [int(name[len(_KEPT_DOWN) :]) for name in names if _is_numbered(name, _KEPT_DOWN)]
        number = max(numbers, default=0)
        new = sorted((name for name in names if name.startswith(_DOWN)), key=_by_time)
        for name in new:
            if abs(time.time() - (self._slot / name).stat().st_mtime) < STILL_S:
                break  # and none after it, for the order's sake
            number += 1
            sync_file(self._slot / name)  # the client does not, and has told its server that it came
            (self._slot / name).replace(self._down(number))
            sync_folder(self._slot)
            numbers.append(number)
        wanted = [number for number in numbers if number > after]
        return {number: self._down(number).read_bytes().decode("utf-8", "replace") for number in wanted}

    def upload_status(self, name: str) -> int | None:
        """Return the client's answer to a request, 0 for success; None while there is none."""
        try:
            with (self._slot / f"{_ANSWER}{name}").open("rb") as file:
                text = file.read(_ANSWER_BYTES)
            return int(text.partition(b"<status>")[2].partition(b"</status>")[0])
        except (OSError, ValueError):
            return None

    # The link's

    def say(self, variety: str, text: str) -> None:
        """Send a message of our own; an older one of this variety that still waits is forgotten for it."""
        self._ours[variety] = _trickle_up(variety, text)

    def due(self, *, mailbox_full: bool) -> str:
        """Put the next trickle in its place if that may be; return what the client must be told, "" for nothing.

        Called when the client has been at the memory, and once a second. What is returned must have been put into the
        mailbox, unless it is full.
        """
        now = self._clock()
        self._look(now)
        if self._pace.may_write(now):
            self._write_next()
        if mailbox_full:
            return ""
        message = ""
        if self._pace.must_tell(now):
            self._pace.told(now)
            message = HAVE_TRICKLE
        if any(told is None or now - told >= TELL_AGAIN_S for told in self._requests.values()):
            self._requests = dict.fromkeys(self._requests, now)
            message += HAVE_UPLOAD
        return message

    def _look(self, now: float) -> None:
        if self._pace.lies_there and self._pace.look(now, lies_there=self._path.exists()):
            self._moved_at = now
        for request in list(self._requests):
            if not (self._slot / request).exists():
                del self._requests[request]
                self._moved_at = now

    def _write_next(self) -> None:
        try:
            if self._waiting:
                self._trickle(self._waiting[0]).replace(self._path)
                self._waiting.popleft()
            elif self._ours:
                variety = next(iter(self._ours))
                write_atomic(self._path, self._ours[variety], durable=True)  # or the client might send half of it
                del self._ours[variety]
            else:
                return
        except FileNotFoundError:
            logger.warning("a trickle has vanished from the slot")
            if self._waiting:
                self._waiting.popleft()
            return
        except OSError as error:
            if str(error) != self._trouble:
                logger.warning("a trickle cannot be handed to the client now: %s", error)
            self._trouble = str(error)
            self._pace.failed(self._clock())
            return
        self._trouble = ""
        self._pace.wrote()

    @property
    def settled(self) -> bool:
        """The client has taken everything."""
        return not (self._pace.lies_there or self._waiting or self._ours or self._requests)

    @property
    def left(self) -> int:
        """How many messages the client has not taken."""
        return len(self._waiting) + len(self._ours) + len(self._requests) + self._pace.lies_there

    def stalled_s(self) -> float:
        """How long the client has taken nothing, in seconds."""
        return self._clock() - self._moved_at

    def patient(self) -> None:
        """Measure `stalled_s` from now."""
        self._moved_at = self._clock()

    def _trickle(self, number: int) -> Path:
        return self._slot / f"{_WAITING_TRICKLE}{number}"

    def _down(self, number: int) -> Path:
        return self._slot / f"{_KEPT_DOWN}{number}"


def _trickle_up(variety: str, text: str) -> bytes:
    return f"<variety>{variety}</variety>\n{text}".encode("utf-8", "replace")


def _is_numbered(name: str, stem: str) -> bool:
    return name.startswith(stem) and name[len(stem) :].isdecimal()


def _upload_number(name: str) -> int:
    """Return the number of a waiting request, 0 if it is none."""
    number, _, output = name.removeprefix(_WAITING_UPLOAD).partition(".")
    return int(number) if name.startswith(_WAITING_UPLOAD) and number.isdecimal() and output else 0


def _by_time(name: str) -> tuple[float, str]:
    with contextlib.suppress(ValueError):
        return float(name[len(_DOWN) :]), name
    return 0.0, name
