"""The numbered files of a share (B15): read the next one that the guest should write, write those that are ours.

Only the next number of each kind is ever looked for; the guest's folder is not listed (B7). Everything here may take as
long as the disk does, so it is called in a thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from logging import getLogger

from protocol.codec import encode, size_limit
from protocol.errors import RemoteProtocolError
from protocol.files import Door, write_atomic
from protocol.layout import OUT, TAKEN, TRICKLE_DOWN, UPLOADED, Share
from protocol.messages import Message, Taken, TrickleDown, Uploaded
from protocol.session import GRACE_S, Garbled, Said, Session

logger = getLogger(__name__)

COMPLAINTS = 20
"""How many broken files are told about."""


@dataclass(slots=True)
class _Next:
    """What is known of the next file of a kind. Its message is kept: it may have to be forwarded more than once."""

    number: int
    session: Session = field(default_factory=Session)
    message: Message | None = None


class Numbered:
    """The numbered files of one share, as the host sees them."""

    out = OUT
    """The folder of the outputs that the guest's uploads name."""

    def __init__(self, share: Share) -> None:
        """:raise OSError: the guest's folder cannot be opened."""
        self._host = share.host
        self._next: dict[str, _Next] = {}
        self._complaints = 0
        self.door = Door(share.guest)

    def close(self) -> None:
        """Look no more. May be called again."""
        self.door.close()

    def is_there(self, kind: str, number: int) -> bool:
        """Say whether the guest has written anything under this number."""
        return self.door.is_there(f"{kind}.{number}")

    def read(self, kind: str, number: int, now: float, *, over: bool = False) -> Message | None:
        """Return the message `number` of this kind, once it is there and complete; None before.

        `now` is any steady clock's, in seconds. With `over` nobody writes any more, and it is as complete as it gets. A
        broken one is told about once, and waits to be mended (B5).

        :raise OSError: it cannot be read.
        """
        place = self._next.get(kind)
        if place is None or place.number != number:
            place = self._next[kind] = _Next(number)
        name = f"{kind}.{number}"
        news: Said | Garbled | None
        try:
            content = self.door.read(name, size_limit(kind))
        except RemoteProtocolError as error:
            news = place.session.refuse(kind, error)
        else:
            news = place.session.observe(kind, content, now)
            if over and news is None:
                news = place.session.observe(kind, content, now + GRACE_S)
        if isinstance(news, Garbled):
            self._complain(name, news)
        elif news is not None:
            place.message = news.message
        return place.message

    def _complain(self, name: str, news: Garbled) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            logger.warning("the guest's file %s is not taken: %s", name, news.error)

    def taken(self, trickle_up: int, upload: int, saved: int | None = None) -> None:
        """Tell the guest up to which numbers it may forget.

        :raise OSError: it could not be written.
        """
        write_atomic(self._host / TAKEN, encode(Taken(trickle_up, upload, saved)), durable=False)

    def trickle_down(self, number: int, text: str) -> None:
        """Hand a message of the project to the guest, line by line.

        :raise LocalProtocolError: the protocol cannot say it: a line is too long, say.
        :raise OSError: it could not be written.
        """
        message = encode(TrickleDown(tuple(text.replace("\r\n", "\n").split("\n"))))
        write_atomic(self._host / f"{TRICKLE_DOWN}.{number}", message, durable=False)

    def uploaded(self, number: int, status: int) -> None:
        """Tell the guest what became of an upload.

        :raise OSError: it could not be written.
        """
        path = self._host / f"{UPLOADED}.{number}"
        if not os.path.exists(path):
            write_atomic(path, encode(Uploaded(status)), durable=False)
