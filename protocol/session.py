"""What the guest's files mean over time: grace for the unfinished, each thing said once, the last good value kept.

Pure: the caller reads the files and passes in their content and `now`, seconds on any clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass

from .codec import decode
from .errors import Incomplete, RemoteProtocolError
from .messages import Message

GRACE_S = 1.0
"""How long a file without its last newline must stand unchanged before it is taken as it is (B3)."""


@dataclass(frozen=True, slots=True)
class Said:
    """The guest said something new in the file `kind`."""

    kind: str
    message: Message


@dataclass(frozen=True, slots=True)
class Garbled:
    """The guest broke a rule in the file `kind`; what it said before still holds (B5)."""

    kind: str
    error: RemoteProtocolError


@dataclass(slots=True)
class _File:
    """What was last seen in one file."""

    content: bytes | None = None
    since: float = 0.0
    judged: bool = True
    complaint: str = ""


class Session:
    """Turns observations of the guest's files into what was said. One for each incarnation of the guest's folder."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def observe(self, kind: str, content: bytes | None, now: float) -> Said | Garbled | None:
        """Note that the file `kind` has this content now, None if it is absent; return what is new in it."""
        file = self._files.setdefault(kind, _File())
        if content != file.content:
            file.content, file.since, file.judged = content, now, content is None
        if file.judged or file.content is None:
            return None
        try:
            message = decode(kind, file.content)
        except Incomplete:
            if now - file.since < GRACE_S:
                return None
            return self._judge_unfinished(kind, file)
        except RemoteProtocolError as error:
            return self._complain(kind, file, error)
        return self._accept(kind, file, message)

    def refuse(self, kind: str, error: RemoteProtocolError) -> Garbled | None:
        """Note that the file `kind` cannot be taken for this reason; return it unless it was said just before."""
        file = self._files.setdefault(kind, _File())
        file.content, file.judged = None, True
        return self._complain(kind, file, error)

    def _complain(self, kind: str, file: _File, error: RemoteProtocolError) -> Garbled | None:
        file.judged = True
        if str(error) == file.complaint:
            return None
        file.complaint = str(error)
        return Garbled(kind, error)

    def _judge_unfinished(self, kind: str, file: _File) -> Said | Garbled | None:
        assert file.content is not None
        try:
            message = decode(kind, file.content + b"\n")
        except RemoteProtocolError as error:
            return self._complain(kind, file, error)
        return self._accept(kind, file, message)

    def _accept(self, kind: str, file: _File, message: Message) -> Said:
        file.judged, file.complaint = True, ""
        return Said(kind, message)
