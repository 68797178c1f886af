"""A guest without our agent: what its plain files say, as BOINC's vboxwrapper has them, put into the protocol's words.

vboxwrapper reads a trigger file as soon as there is one, torn or not; believes the guest's time stamps; and knows the
state of a guest by the clock on the wall. Here a file counts when it has not changed for a while in which the machine
ran, and a heartbeat is any change of the file, by a time that no guest can set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from logging import getLogger
from pathlib import Path

from protocol.codec import MAX_BYTES, MAX_TEXT_BYTES
from protocol.errors import RemoteProtocolError
from protocol.files import Door, unfinished, write_atomic
from protocol.layout import Share
from protocol.messages import Finished, FractionDone, GuestState, InitData, Message, Status
from protocol.session import Garbled, Said

from ..copying import copy_content
from ..errors import JobFileError, host_trouble
from ..job import MachineTask, PlainGuest
from ..trees import remove_tree
from .said import Completed, Postponed
from .steady import EMPTY_S, STEADY_S, Steady
from .triggers import TriggerFiles, without_controls
from .watch import News

logger = getLogger(__name__)

CMDLINE = "cmdline"
INIT_DATA = "init_data.xml"
NUMBER_BYTES = 64
"""The end of a file of numbers that is looked at; vboxwrapper takes 32."""

AGAIN_S = 300.0
"""For a guest that does not say how long it wants to wait."""

SYNCED_MOST = 1000

DURABLE = "complete"
"""A file in the machine's folder: what the guest has left at its end is on the disk."""

_CODE = re.compile(r"\s*([-+]?[0-9]{1,9})")
_NUMBER = re.compile(rb"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?)")


class PlainWords:
    """What the files of a plain guest mean. `clock` stands still with the machine."""

    def __init__(self, guest: PlainGuest, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._steady: dict[str, Steady] = {}
        self._said: dict[str, object] = {}
        self._beats = 0
        readers: dict[str | None, Callable[[Door, str, bool], News | None]] = {
            guest.completion_trigger_file: self._completion,
            guest.temporary_exit_trigger_file: self._temporary_exit,
            guest.heartbeat_filename: self._heartbeat,
            guest.fraction_done_filename: self._fraction,
        }
        self._readers = {name: read for name, read in readers.items() if name is not None}
        self.names = tuple(self._readers)

    def read(self, door: Door, name: str, *, over: bool) -> News | None:
        """As `Words`."""
        try:
            news = self._readers[name](door, name, over)
        except RemoteProtocolError as error:
            news = Garbled(name, error)
        except OSError as error:
            news = Garbled(name, RemoteProtocolError("B7", f"it cannot be read: {error.strerror}"))
        if isinstance(news, Garbled):
            if self._said.get(name) == str(news.error):
                return None
            self._said[name] = str(news.error)
        return news

    def _fraction(self, door: Door, name: str, over: bool) -> News | None:
        """The last number in the file; a last line without its newline may not be complete."""
        text = door.tail(name, NUMBER_BYTES)
        lines = (text or b"").split(b"\n")
        if len(text or b"") == NUMBER_BYTES:
            del lines[0]  # its beginning may be cut off
        whole = self._of(name).is_whole(text, self._clock(), 0.0 if over else STEADY_S)
        for line in reversed(lines if whole else lines[:-1]):
            if found := _NUMBER.match(line):
                value = min(float(found[1]), 1.0)
                if value == self._said.get(name):
                    return None
                self._said[name] = value
                return Said(name, FractionDone(value))
        return None

    def _heartbeat(self, door: Door, name: str, over: bool) -> News | None:
        stamp = door.stamp(name)
        if stamp is None or stamp == self._said.get(name):
            return None
        self._said[name] = stamp
        self._beats += 1
        return Said(name, Status(GuestState.RUNNING, self._beats))

    def _completion(self, door: Door, name: str, over: bool) -> News | None:
        if (lines := self._trigger(door, name, over)) is None:
            return None
        code, notice, message = _judged(lines)
        if code is None and lines[0].strip():
            logger.info("%s says %r, which is no exit code: it counts as 0", name, lines[0][:80])
        return Said(name, Completed(code or 0, message or None, notice))

    def _temporary_exit(self, door: Door, name: str, over: bool) -> News | None:
        if (lines := self._trigger(door, name, over)) is None:
            return None
        delay_s, notice, message = _judged(lines)
        reason = message or "the guest asks to be started again later"
        return Postponed(AGAIN_S if delay_s is None else max(0.0, delay_s), reason, notice)

    def _trigger(self, door: Door, name: str, over: bool) -> list[str] | None:
        """Return the lines of a trigger file, once each time it has become whole; there is always a first one."""
        text = door.read(name, MAX_BYTES)
        wait_s = STEADY_S if text and text.strip() else EMPTY_S
        if not self._of(name).is_news(text, self._clock(), 0.0 if over else wait_s) or text is None:
            return None
        return text.decode("utf-8", "replace").split("\n")

    def _of(self, name: str) -> Steady:
        return self._steady.setdefault(name, Steady())


def _judged(lines: list[str]) -> tuple[int | None, bool, str]:
    """Read a trigger file: a number, whether the volunteer is to be told (0 or 1), and what."""
    number = _CODE.match(lines[0])
    notice = len(lines) > 1 and (found := _CODE.match(lines[1])) is not None and int(found[1]) != 0
    message = without_controls(" ".join(" ".join(lines[2:]).split()))
    return None if number is None else int(number[1]), notice, message.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")


class PlainWay:
    """How to deal with a guest that knows no agent; see `Way`."""

    obeys = False

    def __init__(self, guest: PlainGuest) -> None:
        self._guest = guest

    def words(self, clock: Callable[[], float]) -> PlainWords:
        """What its files mean."""
        return PlainWords(self._guest, clock)

    def letters(self, share: Share, machine: Path, clock: Callable[[], float], asked: list[str]) -> TriggerFiles:
        """Its trickles and uploads."""
        return TriggerFiles(share, self._guest, machine, clock, asked)

    def left(self, door: Door, machine: Path, places: Mapping[str, Path]) -> dict[str, Path]:
        """Whether an output may be missing is the project's to say, who did not name them to us. All that lies in the
        share is made durable: the client may take it from there. Then it is noted, for a start that comes after a
        failure to bring it home.
        """
        sync_files(door)
        with suppress(OSError):  # without it the guest is asked again, at worst
            write_atomic(machine / DURABLE, b"", durable=True)
        return {name: place for name, place in places.items() if door.is_there(name)}

    def by_time(self, run_s: float) -> Iterator[Message]:
        """A guest does not say that it is up: it is, when its machine runs. A job may last so long and no longer: then
        its end is a success, and how far it is, is its time.
        """
        yield Status(GuestState.RUNNING, 0)
        duration = self._guest.job_duration
        if not duration:
            return
        if self._guest.fraction_done_filename is None:
            yield FractionDone(min(run_s / duration, 1.0))
        if run_s >= duration:
            yield Finished(0, f"it has run for {duration:,.0f} seconds, as long as it was to")


def stage_plain(job: MachineTask, guest: PlainGuest, share: Share, machine: Path, init_data: InitData | None) -> None:
    """See to it that the folder is there, with what the job file wants in it and no word of an earlier start.

    What the guest has left there itself stays, for a guest that goes on. `machine` is the machine's folder, `init_data`
    what the guest may know of what the client says of the job.

    :raise JobFileError: a file of the job is missing.
    :raise HostError: a file could not be written.
    """
    with host_trouble("make the shared folder"):
        share.guest.mkdir(exist_ok=True)
    with host_trouble("tidy up the shared folder"), Door(share.guest) as door:
        _forget_words(guest, share.guest, done=(machine / DURABLE).exists())
        for name in guest.copy_to_shared:
            if door.is_there(name):
                continue
            if name == INIT_DATA:
                _write(share.guest / name, blanked(init_data or InitData()))
            else:
                _copy(job, name, share.guest / name)
        if guest.copy_cmdline_to_shared:
            _write(share.guest / CMDLINE, " ".join(job.arguments).encode("utf-8", "surrogateescape"))


def blanked(init_data: InitData) -> bytes:
    """Return an `init_data.xml` for a guest whose job file wants to have it copied: what the work is, and with empty
    elements in place of whose computer it runs on. The authenticator in the client's own file is as good as a password.
    """
    known = {field.name: value for field in fields(init_data) if (value := getattr(init_data, field.name)) is not None}
    lines = [f"<{name}>{value:f}</{name}>" if isinstance(value, float) else f"<{name}>{value}</{name}>"
             for name, value in known.items()]  # fmt: skip
    lines += [f"<{name}></{name}>" for name in _OF_THE_VOLUNTEER]
    return ("<app_init_data>\n" + "".join(line + "\n" for line in lines) + "</app_init_data>\n").encode()


_OF_THE_VOLUNTEER = (
    *("userid", "teamid", "hostid", "user_name", "team_name", "authenticator", "user_total_credit"),
    *("user_expavg_credit", "host_total_credit", "host_expavg_credit"),
)


def _forget_words(guest: PlainGuest, folder: Path, *, done: bool) -> None:
    """A word of an earlier start says nothing of this one; but that all is `done`, and was made durable, stays true.

    Without that a power cut may have left the word and taken what it speaks of.
    """
    past = [guest.fraction_done_filename, guest.heartbeat_filename, guest.temporary_exit_trigger_file]
    for name in [*past, *([] if done else [guest.completion_trigger_file])]:
        if name is not None:
            remove_tree(folder / name)


def _write(target: Path, data: bytes) -> None:
    """Write a file among the guest's own, who may have left a folder under its name."""
    for name in (target, unfinished(target)):
        remove_tree(name)
    write_atomic(target, data, durable=False)


def _copy(job: MachineTask, name: str, target: Path) -> None:
    """A copy, because the guest can write to it; whole or not at all."""
    source = job.path(name)
    if not source.is_file():
        problem = "is no file" if source.exists() else "does not exist"
        raise JobFileError(job.file, 0, "copy_to_shared", f"{source} {problem}. Put it into the job directory")
    temporary = target.with_name(f".{target.name[:200]}.vmbridge")
    remove_tree(temporary)
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            copy_content(reader.fileno(), writer.fileno(), os.fstat(reader.fileno()).st_size)
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def forget_end(guest: PlainGuest, share: Share) -> None:
    """Forget that all is done, for the next job in the same folder: outside of a client, a person's."""
    for name in (guest.completion_trigger_file, guest.temporary_exit_trigger_file):
        if name is not None:
            with suppress(OSError):
                (share.guest / name).unlink()


def sync_files(door: Door) -> None:
    """Make durable what lies in the guest's folder itself, as far as it can be looked through."""
    for name in door.some_names(SYNCED_MOST):
        with suppress(OSError, RemoteProtocolError):
            fd = door.open(name)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def output_links(job: MachineTask, guest: PlainGuest) -> tuple[str, ...]:
    """Return the names of the job's outputs: those that can be uploaded early, and all names in the job directory that
    stand for a file elsewhere which is not there yet. `vbox_job.xml` does not list them.
    """
    with host_trouble(f"read {job.directory}"):
        names = sorted(os.listdir(job.directory))
    links = (name for name in names if (path := job.path(name)) != job.directory / name and not path.exists())
    return tuple(dict.fromkeys((*guest.intermediate_upload_files, *links)))
