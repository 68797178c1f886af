"""What is found in a job file: errors, and what is only to be told, each with its line and element.

A run stops at the first error and logs the rest; `vmbridge lint` prints all. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import JobFileError


class Kind(enum.Enum):
    """What is the matter: an `ERROR` keeps the job from being run, the others do not."""

    ERROR = "error"
    UNKNOWN = "unknown"
    IGNORED = "ignored"
    DEPRECATED = "deprecated"
    DANGEROUS = "dangerous"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: where (`line` 0: in the file as a whole), and a sentence that says what, and what to do."""

    line: int
    element: str
    sentence: str
    kind: Kind = Kind.ERROR

    def error(self, file: Path) -> JobFileError:
        """Return it as an error of `file`, whose text is also how a warning reads."""
        return JobFileError(file, self.line, self.element, self.sentence)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return them by line, and those of one line as they were found."""
    return tuple(sorted(findings, key=lambda finding: finding.line))


def first_error(findings: Iterable[Finding]) -> Finding | None:
    """Return the first that keeps the job from being run."""
    return next((finding for finding in findings if finding.kind is Kind.ERROR), None)
