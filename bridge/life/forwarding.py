"""Forward the guest's trickles and uploads to the project, each once, and what comes back to the guest (B15).

What the guest sends is *staged* where it goes, durably; then the record says that it was taken; only then is it
*released*, and the guest told that it may forget. So whatever is killed at whatever instant, a message that is staged
and not recorded is one that the guest sends again, and one that is recorded is never taken again.

The record belongs to one history of the guest: it lies in the machine's folder, beside its checkpoints, and begins anew
when a job begins anew, whose guest numbers from 1 again. Such a job sends its trickles again, as a native one would.

What the program itself has saved comes the same way, a third kind of numbered files, and stays here (B21).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import Protocol

from protocol.errors import LocalProtocolError
from protocol.files import write_atomic
from protocol.layout import SAVED, TRICKLE_UP, UPLOAD
from protocol.messages import Saved, TrickleUp, Upload

from ..errors import GuestError
from ..guest.collect import collect
from ..guest.way import Letters
from .accounting import Progress
from .program_state import ProgramState

logger = getLogger(__name__)

FORMAT = "vmbridge-forwarded 1"
RECORD = "forwarded.json"
AT_ONCE = 16
AT_END = 1024
"""So many of a kind are taken when the guest has ended; an agent leaves half as many at most."""

NO_FILE = -108
"""What the guest is told of an upload whose file is not there; BOINC's number for a file that cannot be opened."""

MAX_NAME_BYTES = 200
"""Of an output that is uploaded early: file names are made of it."""


class Project(Protocol):
    """Where trickles and uploads go. `stage_...`, `begin`, and what asks are called in a thread, one at a time."""

    def begin(self, staged: tuple[int, int] | None) -> tuple[int, int]:
        """Go on with what an earlier process staged; return the highest numbers, of trickles and uploads.

        What was staged under higher numbers than `staged` is forgotten; None keeps everything.
        """

    def room(self) -> bool:
        """Say whether it wants more trickles now."""

    def stage_trickle(self, number: int, variety: str, text: str) -> None:
        """Keep a trickle durably, under a number higher than any before, until it is released.

        :raise OSError: it could not be kept.
        """

    def stage_upload(self, number: int, name: str) -> None:
        """Keep the request to upload the output `name`, which is at its place."""

    def release(self, trickle: int, upload: int) -> None:
        """Send what is staged, up to these numbers. In the event loop.

        :raise OSError: not now; it is called again.
        """

    def has_news(self) -> bool:
        """Say whether there may be messages to this job that `trickles_down` has not returned yet. Cheap: in the loop.

        :raise OSError: it cannot be known.
        """

    def trickles_down(self, after: int) -> Mapping[int, str]:
        """Return the messages to this job with higher numbers than `after`; they count from 1, and are kept."""

    def upload_status(self, name: str) -> int | None:
        """Return what became of an upload, 0 for success; None while it is not known."""


class Nobody:
    """No project at all: `tell` is told each message in a line, and that is its end."""

    def __init__(self, tell: Callable[[str], None] = logger.info) -> None:
        self._tell = tell

    def begin(self, staged: tuple[int, int] | None) -> tuple[int, int]:
        """Nothing is kept."""
        return staged or (0, 0)

    def room(self) -> bool:
        """There is always room."""
        return True

    def stage_trickle(self, number: int, variety: str, text: str) -> None:
        """Tell it."""
        self._tell(f"trickle {number} to the project, {variety}: {' '.join(text.split())[:500]}")

    def stage_upload(self, number: int, name: str) -> None:
        """Tell it."""
        self._tell(f"upload {number}: {name}")

    def release(self, trickle: int, upload: int) -> None:
        """Nothing was kept."""

    def has_news(self) -> bool:
        """Nobody writes."""
        return False

    def trickles_down(self, after: int) -> Mapping[int, str]:
        """Nobody writes."""
        return {}

    def upload_status(self, name: str) -> int | None:
        """All is well."""
        return 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken from the guest: the highest number of its trickles, and what became of each of its uploads.

    The project's numbers are the guest's plus `before`, those of earlier histories. `saved` is the highest number of
    the program's own states, `home` are the outputs that an earlier history has brought and this one need not.
    """

    trickles: int = 0
    uploads: tuple[TakenUpload, ...] = ()
    before: tuple[int, int] = (0, 0)
    saved: int = 0
    home: tuple[str, ...] = ()

    @property
    def staged(self) -> tuple[int, int]:
        """The highest numbers at the project."""
        return self.before[0] + self.trickles, self.before[1] + len(self.uploads)

    def with_upload(self, name: str, status: int | None) -> Taken:
        """Return this with one more upload."""
        return replace(self, uploads=(*self.uploads, TakenUpload(name, status)))

    def brought(self) -> frozenset[str]:
        """Return the names of the outputs that are at their places, and must not change any more."""
        return frozenset((*self.home, *(upload.name for upload in self.uploads if upload.status is None)))


@dataclass(frozen=True, slots=True)
class TakenUpload:
    """An upload; `status` is what we say of it ourselves, None if the project does."""

    name: str
    status: int | None = None


def read_record(folder: Path) -> Taken | None:
    """Read the record; None if there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        if record["format"] != FORMAT:
            return None
        uploads = tuple(TakenUpload(str(entry["name"]), entry["status"]) for entry in record["uploads"])
        first, second = record["before"]
        home = tuple(str(name) for name in record.get("home", ()))
        return Taken(int(record["trickles"]), uploads, (int(first), int(second)), int(record.get("saved", 0)), home)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.warning("the record of trickles cannot be read: %r", error)
        return None


def write_record(folder: Path, taken: Taken) -> None:
    """Write the record; it is on the disk when this returns.

    :raise OSError: it could not be written, and is as it was.
    """
    data = json.dumps({"format": FORMAT, **asdict(taken)})
    write_atomic(folder / RECORD, data.encode(), durable=True)


@dataclass(frozen=True, slots=True)
class Keeping:
    """How the program's own state is kept: where, at most every so many seconds unless it was asked for.

    `progress` says how far the job is when one is seen, `kept` is told how far it was when one is safe; both in the
    event loop.
    """

    state: ProgramState
    every_s: float
    progress: Callable[[], Progress]
    kept: Callable[[Progress], None]


@dataclass(slots=True)
class _Told:
    """What the guest was told in this share, which is a new one at each start."""

    trickles_down: int = 0
    uploads: set[int] = field(default_factory=set)


class Forwarding:
    """The way between one guest and its project. All that takes time is done in a thread, one thing at a time."""

    def __init__(
        self,
        guest: Letters,
        folder: Path,
        places: Mapping[str, Path],
        project: Project,
        clock: Callable[[], float],
        keeping: Keeping | None = None,
    ) -> None:
        """`guest` is closed in the end. `folder` is the machine's, `places` says where each output belongs. Without
        `keeping`, what the program saves stays where it is.
        """
        self._guest = guest
        self._folder = folder
        self._places = places
        self._project = project
        self._clock = clock
        self._taken = Taken()
        self._told = _Told()
        self._keeping = keeping
        self._seen = 0, Progress()
        self._next_saved = 0.0
        self._round: asyncio.Task[None] | None = None
        self._again = False
        self._first = True
        self._trouble = ""
        self._ended = False
        self._cut = False

    @property
    def out(self) -> str:
        """The folder of the outputs in the guest's share."""
        return self._guest.out

    @property
    def brought(self) -> list[str]:
        """The outputs that are at their places already."""
        return [name for name in self._places if name in self._taken.brought()]

    async def begin(self, *, anew: bool, halfway: bool = False) -> None:
        """Go on where the last process was; `anew`, with a guest that begins at its beginning. If its program goes on
        `halfway`, from what it has saved itself, it does not ask again for the uploads that it had asked for before.

        :raise OSError: the record could not be written.
        """
        await asyncio.to_thread(self._begin, anew, halfway)
        self._project.release(*self._taken.staged)

    def _begin(self, anew: bool, halfway: bool) -> None:
        recorded = read_record(self._folder)
        staged = self._project.begin(None if recorded is None else recorded.staged)
        if recorded is None or anew:
            home = recorded.brought() if halfway and recorded is not None else ()
            self._taken = Taken(before=staged, home=tuple(sorted(home)))
            write_record(self._folder, self._taken)
        else:
            self._taken = recorded
        self._tell_taken()

    def _tell_taken(self) -> None:
        taken = self._taken
        self._guest.taken(taken.trickles, len(taken.uploads), None if self._keeping is None else taken.saved)

    def look(self) -> None:
        """Forward what is new, unless that is being done."""
        if self._ended:
            return
        self._see_saved()
        if self._round is not None and not self._round.done():
            self._again = True
            return
        if not (self._first or self._trouble or self._may_be_new()):
            return
        self._first = False
        self._round = asyncio.create_task(self._look(over=False))

    def _may_be_new(self) -> bool:
        """Say whether a round may find something. A thread each second of a job that sends nothing would cost more
        than all else that the bridge does then.
        """
        taken = self._taken
        try:
            return (
                self._guest.is_there(TRICKLE_UP, taken.trickles + 1)
                or self._guest.is_there(UPLOAD, len(taken.uploads) + 1)
                or len(self._told.uploads) < len(taken.uploads)
                or self._saved_is_due()
                or self._project.has_news()
            )
        except OSError:
            return True  # a round tells why

    def _see_saved(self) -> None:
        """Note how far the job is when the program has saved its state: it may be long until there is room for it."""
        number = self._taken.saved + 1
        if self._keeping is not None and self._seen[0] != number and self._guest.is_there(SAVED, number):
            self._seen = number, self._keeping.progress()

    def _saved_is_due(self) -> bool:
        return self._seen[0] == self._taken.saved + 1 and self._clock() >= self._next_saved

    async def last(self) -> None:
        """Take all that a guest has left that writes no more."""
        await self._look_once_more(over=True)

    async def catch_up(self) -> None:
        """Take all that is there now, also what the program has saved too soon after the last time."""
        self._next_saved = 0.0
        await self._look_once_more(over=False)

    async def _look_once_more(self, *, over: bool) -> None:
        await self._settled()
        if not self._ended:
            self._see_saved()
            self._round = asyncio.create_task(self._look(over=over))
            await self._round

    async def end(self, *, cut: bool = False) -> None:
        """End when what is under way is done, or `cut` off because nobody wants it any more. May be called again."""
        self._ended = True
        self._cut = cut
        await self._settled()
        self._guest.close()

    async def _settled(self) -> None:
        self._again = False
        while self._round is not None and not self._round.done():
            await self._round

    async def _look(self, *, over: bool) -> None:
        state = None if self._keeping is None else self._keeping.state
        while True:
            self._again = False
            before = None if state is None else state.newest
            try:
                try:
                    await asyncio.to_thread(self._forward, over)
                finally:
                    if self._keeping is not None and state is not None and state.newest not in (None, before):
                        self._keeping.kept(state.newest.progress)
                    self._project.release(*self._taken.staged)
            except Exception as error:  # whatever it is, it is not the job's
                if str(error) != self._trouble:
                    logger.warning("trickles and uploads must wait: %s", error)
                self._trouble = str(error)
            else:
                self._trouble = ""
            if not self._again:
                return

    # In a thread

    def _forward(self, over: bool) -> None:
        """Do all that can be done; what fails holds nothing else up.

        :raise Exception: the first thing that failed.
        """
        troubles = []
        for step in (
            self._bring_trickles_down,
            lambda: self._take_trickles(over),
            lambda: self._take_uploads(over),
            lambda: self._take_saved(over),
            self._bring_statuses,
        ):
            try:
                step()
            except Exception as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _take(self, taken: Taken) -> None:
        write_record(self._folder, taken)
        self._taken = taken
        self._tell_taken()

    def _take_trickles(self, over: bool) -> None:
        taken = self._taken
        for _ in range(AT_END if over else AT_ONCE):
            if not (over or self._project.room()):
                break
            message = self._guest.read(TRICKLE_UP, taken.trickles + 1, self._clock(), over=over)
            if not isinstance(message, TrickleUp):
                break
            taken = replace(taken, trickles=taken.trickles + 1)
            self._project.stage_trickle(taken.staged[0], message.variety, "\n".join(message.text))
        if taken is not self._taken:
            self._take(taken)

    def _take_uploads(self, over: bool) -> None:
        for _ in range(AT_END if over else AT_ONCE):
            number = len(self._taken.uploads) + 1
            message = self._guest.read(UPLOAD, number, self._clock(), over=over)
            if not isinstance(message, Upload):
                break
            self._take(self._staged_upload(message.name))

    def _take_saved(self, over: bool) -> None:
        """Keep what the program has saved; a set that is none is passed over, for the next one may be."""
        number, progress = self._seen
        if over or self._keeping is None or not self._saved_is_due():
            return
        message = self._guest.read(SAVED, number, self._clock())
        if not isinstance(message, Saved):
            return
        try:
            self._keeping.state.take(self._guest.door, message.file, progress, message.cpu_seconds, self._is_wanted)
        except GuestError as error:
            logger.warning("what the program has saved is not kept: %s", error)
        self._next_saved = self._clock() + self._keeping.every_s
        self._take(replace(self._taken, saved=number))

    def _staged_upload(self, name: str) -> Taken:
        """Bring the file to its place and ask for its upload, unless that was done before."""
        if name in self._taken.brought():
            return self._taken.with_upload(name, None)
        problem = self._bring(name)
        taken = self._taken.with_upload(name, None if problem is None else NO_FILE)
        if problem is None:
            self._project.stage_upload(taken.staged[1], name)
        else:
            logger.warning("%s is not uploaded: %s", name, problem)
        return taken

    def _is_wanted(self) -> bool:
        return not self._cut

    def _bring(self, name: str) -> str | None:
        place = self._places.get(name)
        if place is None or len(name.encode()) > MAX_NAME_BYTES:
            return "it is no output of the job" if place is None else "its name is too long"
        try:
            collect(self._guest.door, {name: place}, self._folder, self._is_wanted, self._guest.out)
        except GuestError as error:
            return str(error)
        return None

    def _bring_statuses(self) -> None:
        for number, upload in enumerate(self._taken.uploads, 1):
            if number in self._told.uploads:
                continue
            status = self._project.upload_status(upload.name) if upload.status is None else upload.status
            if status is not None:
                self._guest.uploaded(number, status)
                self._told.uploads.add(number)

    def _bring_trickles_down(self) -> None:
        for number, text in sorted(self._project.trickles_down(self._told.trickles_down).items()):
            try:
                self._guest.trickle_down(number, text)
            except LocalProtocolError as error:
                logger.warning("message %d of the project cannot be told to the guest: %s", number, error)
                self._guest.trickle_down(number, "")  # a gap would hide the next ones
            self._told.trickles_down = number
