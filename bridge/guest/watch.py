"""Notice what the guest writes: notices of the kernel as hints, a re-read of the known names as the truth (B8).

The hints come from watchdog. What it must not do here was tried: watch a folder that the guest can remove and make
again (its emitter dies silently), watch recursively (the guest decides how many folders there are), or pass on all
events (eight for each file published). So: the export's root alone, and only the events that end a change.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from logging import getLogger
from typing import Protocol

from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from protocol.codec import size_limit
from protocol.errors import RemoteProtocolError
from protocol.files import Door
from protocol.layout import GUEST_FILES, Share
from protocol.session import Garbled, Said, Session

from ..beat import next_beat
from .said import Postponed

logger = getLogger(__name__)

REREAD_EVERY_S = 1.0
SPACED_S = 0.02
"""Reads of one file that notices ask for are so far apart: a guest could keep the host busy with them."""

_STOPPED_WITHIN_S = 0.2

_HINTS: list[type[FileSystemEvent]] = [FileMovedEvent, FileClosedEvent, FileCreatedEvent]


News = Said | Garbled | Postponed


class Words(Protocol):
    """What a guest's files mean."""

    @property
    def names(self) -> Collection[str]:
        """The files that it may write; no others are looked at."""

    def read(self, door: Door, name: str, *, over: bool) -> News | None:
        """Return what is new in the file `name`; with `over` nobody writes any more, and nothing is waited for."""


class AgentsWords:
    """The words of docs/PROTOCOL.md. `clock` is any steady clock, in seconds."""

    names = GUEST_FILES

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._session = Session()

    def read(self, door: Door, name: str, *, over: bool) -> Said | Garbled | None:
        """As the session has it: an agent renames its last words into place, so `over` makes no difference."""
        try:
            return self._session.observe(name, door.read(name, size_limit(name)), self._clock())
        except RemoteProtocolError as error:
            return self._session.refuse(name, error)
        except OSError as error:
            return self._session.refuse(name, RemoteProtocolError("B7", f"it cannot be read: {error.strerror}"))


class Watch:
    """Watches the guest's folder and calls `heard` in the event loop for each new thing that the guest says."""

    def __init__(self, share: Share, heard: Callable[[News], None], words: Words | None = None) -> None:
        """`words` are the protocol's where nothing else is said.

        :raise OSError: the guest's folder cannot be opened.
        """
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._folder = share.guest
        self._words = words or AgentsWords(self._loop.time)
        self._timer: asyncio.TimerHandle | None = None
        self._hinted: set[str] = set()
        self._read_at: dict[str, float] = {}
        self._observer = Observer()
        self._observer.daemon = True
        self._stopping: threading.Thread | None = None
        self.door = Door(share.guest)

    def start(self) -> None:
        """Begin to watch; what is there already is heard at once.

        Where the system's notices are not to be had (too many watches, say) the re-reads alone must do.
        """
        try:
            self._observer.schedule(_Hints(self._hint), os.fspath(self._folder), event_filter=_HINTS)
            self._observer.start()
        except OSError as error:
            logger.warning("no notices of changes in %s (%s); looking once a second", self._folder, error)
        self._reread()

    def stop(self) -> None:
        """Stop watching; nothing is heard any more. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stopping is None and self._observer.is_alive():
            # It waits for its threads, one of which may sleep: for half a second by the time of day. So when the clock
            # has just been set back by an hour, it sleeps for an hour.
            self._stopping = threading.Thread(target=self._observer.stop, daemon=True)
            self._stopping.start()
            self._stopping.join(_STOPPED_WITHIN_S)
        self.door.close()

    def look(self, *, over: bool = False) -> None:
        """Read all known names now; with `over` the guest writes no more."""
        for name in self._words.names:
            self._read(name, over=over)

    def _hint(self, name: str) -> None:
        """In watchdog's thread: something happened to the file `name`.

        However many hints a guest causes, each file waits for at most one read, and these are SPACED_S apart.
        """
        if name in self._words.names and name not in self._hinted:
            self._hinted.add(name)
            self._loop.call_soon_threadsafe(self._read_hinted, name)

    def _read_hinted(self, name: str) -> None:
        if self._timer is None:  # not watching any more
            return
        now = self._loop.time()
        if (early := self._read_at.get(name, -1.0) + SPACED_S - now) > 0:
            self._loop.call_later(early, self._read_hinted, name)
            return
        self._read_at[name] = now
        self._hinted.discard(name)  # before the read: what is written from now on is worth another
        self._read(name)

    def _reread(self) -> None:
        self._timer = self._loop.call_at(next_beat(self._loop.time(), REREAD_EVERY_S), self._reread)
        self.look()

    def _read(self, name: str, *, over: bool = False) -> None:
        if (news := self._words.read(self.door, name, over=over)) is not None:
            self._heard(news)


class _Hints(FileSystemEventHandler):
    """Passes on the name of each file that something happened to."""

    def __init__(self, hint: Callable[[str], None]) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._hint(os.path.basename(os.fsdecode(event.dest_path or event.src_path)))
