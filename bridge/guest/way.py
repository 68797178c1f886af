"""How to deal with a guest: one with our agent, or (plain.py) one that knows none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from protocol.files import Door
from protocol.layout import Share
from protocol.messages import Message

from .numbered import Numbered
from .watch import AgentsWords, Words


class Letters(Protocol):
    """What a guest sends to the project and back; `Numbered` says what each does. `out` is the outputs' folder."""

    out: str
    door: Door

    def close(self) -> None: ...

    def is_there(self, kind: str, number: int) -> bool: ...

    def read(self, kind: str, number: int, now: float, *, over: bool = False) -> Message | None: ...

    def taken(self, trickle_up: int, upload: int, saved: int | None = None) -> None: ...

    def trickle_down(self, number: int, text: str) -> None: ...

    def uploaded(self, number: int, status: int) -> None: ...


class Way(Protocol):
    """How one kind of guest speaks, and is spoken to."""

    obeys: bool
    """It reads `command`, and lets go of its share so that its machine can be saved. What another one has on its disk
    and in its share stays there for the next start."""

    def words(self, clock: Callable[[], float]) -> Words:
        """Return what its files mean; `clock` stands still with its machine."""

    def letters(self, share: Share, machine: Path, clock: Callable[[], float], asked: list[str]) -> Letters:
        """Return what it sends; it has `asked` for these uploads before.

        :raise OSError: a folder cannot be read.
        """

    def left(self, door: Door, machine: Path, places: Mapping[str, Path]) -> Mapping[str, Path]:
        """Return those outputs of `places` that must be brought home at the end, of a guest that is done and has
        stopped. In a thread.

        :raise OSError: they cannot be.
        """

    def by_time(self, run_s: float) -> Iterable[Message]:
        """Return what follows from the machine having run for so long, over all starts. Called once a second."""


class AgentsWay:
    """A guest that speaks docs/PROTOCOL.md."""

    obeys = True

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is the one of the event loop."""
        self._clock = clock

    def words(self, clock: Callable[[], float]) -> AgentsWords:
        """The protocol's."""
        return AgentsWords(self._clock)

    def letters(self, share: Share, machine: Path, clock: Callable[[], float], asked: list[str]) -> Numbered:
        """Numbered files, which need no help."""
        return Numbered(share)

    def left(self, door: Door, machine: Path, places: Mapping[str, Path]) -> Mapping[str, Path]:
        """All: the job file has named them."""
        return places

    def by_time(self, run_s: float) -> Iterable[Message]:
        """Nothing."""
        return ()
