"""The end of what a program prints: a bounded number of bytes, for people."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

TAIL_BYTES = 65_536


class Tail(asyncio.Protocol):
    """Keeps the end of what it is given, by a pipe or otherwise."""

    def __init__(self) -> None:
        self._bytes = b""
        self._text: str | None = ""
        self.closed = asyncio.Event()

    @property
    def text(self) -> str:
        """The end so far."""
        if self._text is None:
            self._text = self._bytes.decode("utf-8", "replace")
        return self._text

    def data_received(self, data: bytes) -> None:
        """Add what was printed."""
        self._bytes = (self._bytes + data)[-TAIL_BYTES:]
        self._text = None  # it is asked for once a second, and mostly nothing was added

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self.closed.set()


def end_of(file: Path) -> str:
    """Return the end of what another program writes to a file; nothing if it cannot be read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - TAIL_BYTES))
            return opened.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
