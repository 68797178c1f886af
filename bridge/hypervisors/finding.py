"""A reason why a machine cannot be started on a computer, or only a slow one, and a case of it. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from string import Formatter

from ..errors import Hindered

SHOWN_BYTES = 254
"""So much of a reason the client reads, if it is to show it as a notice (bridge/client/slot.py)."""

_VALUE_CHARS = 60
"""So much of a value that another program has chosen: a path, the end of what it said."""


class Weight(enum.Enum):
    """What a reason means for the hypervisor that it is about."""

    BLOCKS = "blocks"  #: no machine can be started
    SLOWS = "slows"  #: machines run, several times slower than they could
    DOUBTS = "doubts"  #: it may keep machines from starting; only a start would tell
    NOTES = "notes"  #: worth knowing


class Move(enum.Enum):
    """Whose move it is, and so what becomes of a job: when it is tried again, and whether the volunteer is told."""

    PERSON = "person"  #: somebody has to do something
    OTHERS = "others"  #: it passes when another program has ended, which may take hours
    SOON = "soon"  #: it passes by itself

    @property
    def delay_s(self) -> float:
        """Return after how many seconds a job is tried again; the client gives one up after a hundred times."""
        return 300.0 if self is Move.SOON else 3600.0

    @property
    def notice(self) -> bool:
        """Say whether the client shows the reason as something to be done."""
        return self is Move.PERSON


@dataclass(frozen=True, slots=True)
class Reason:
    """A row of the table. `what` and `do` have `{names}` for the values of a case.

    `remedy` is what root can run that needs no decision and harms nothing: the words of some commands. `when` says how
    it is noticed, `source` whence the text of other programs is known; both are for the documentation.
    """

    code: str
    weight: Weight
    move: Move
    what: str
    do: str
    when: str
    source: str
    remedy: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Return the names of its values."""
        texts = (self.what, self.do, *(word for command in self.remedy for word in command))
        return frozenset(name for text in texts for _, name, _, _ in Formatter().parse(text) if name)


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason that holds here, with its values; `details` is what another program said, for who looks closer."""

    reason: Reason
    values: Mapping[str, str] = field(default_factory=dict)
    weight: Weight = Weight.BLOCKS
    details: str = ""

    @property
    def what(self) -> str:
        """Return what is the matter."""
        return self._filled(self.reason.what)

    @property
    def do(self) -> str:
        """Return what to do."""
        return self._filled(self.reason.do)

    @property
    def sentence(self) -> str:
        """Return both, as the client shows it."""
        return f"{self.what}. {self.do}."

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Return what `doctor --fix` runs."""
        return tuple(tuple(self._words(command)) for command in self.reason.remedy)

    def _words(self, command: tuple[str, ...]) -> Iterator[str]:
        for word in command:
            if word == "{packages}":
                yield from self.values["packages"].split()
            else:
                yield word.format(**self.values)

    def error(self) -> Hindered:
        """Return the error that tells it to whoever has a job to run."""
        return Hindered(self.sentence, delay_s=self.reason.move.delay_s, notice=self.reason.move.notice)

    def as_(self, weight: Weight) -> Finding:
        """Return the same for a hypervisor to which it means something else."""
        return replace(self, weight=weight)

    def _filled(self, text: str) -> str:
        return text.format(**{name: _short(value) for name, value in self.values.items()})


def _short(value: str) -> str:
    """Return a value for people: on one line, its end if it is long, without what a terminal would obey."""
    line = "".join(char if char.isprintable() else " " for char in value)
    line = " ".join(line.encode("ascii", "replace").decode().split())
    return line if len(line) <= _VALUE_CHARS else "..." + line[3 - _VALUE_CHARS :]
