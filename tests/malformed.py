"""The job files in tests/jobs/malformed and tests/jobs/loose, and what is expected of each.

    python -m tests.malformed [FILE...]      write into the files what is said now

The form is described in tests/jobs/malformed/README.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import JobFileError
from bridge.job.schema import decode, parse_job

JOBS = Path(__file__).parent / "jobs"
MALFORMED = JOBS / "malformed"
LOOSE = JOBS / "loose"

PLACE = Path("/slot/job.xml")

_NAME = re.compile(r"== (?P<name>.*?)(?: \(as (?P<encoding>[a-z0-9-]+)\))?")
_BYTE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(slots=True)
class Case:
    """A job file: its name, its bytes, and what is expected of it, a line each."""

    name: str
    data: bytes
    expected: list[str] = field(default_factory=list)


def cases(file: Path) -> Iterator[Case]:
    """Read the cases of one file."""
    before, *parts = re.split(r"^(?=== )", file.read_text("utf-8"), flags=re.MULTILINE)
    frame = "\n".join(line for line in before.splitlines() if not line.startswith("#")).strip("\n")
    for part in parts:
        head, *lines = part.split("\n")
        found = _NAME.fullmatch(head)
        assert found is not None, head
        content = "\n".join(line for line in lines[:-1] if not line.startswith("->"))
        whole = frame.replace("...", content, 1) if frame else content
        expected = [line.removeprefix("->").strip() for line in lines if line.startswith("->")]
        yield Case(found["name"], _bytes(whole, found["encoding"] or "utf-8"), expected)


def _bytes(text: str, encoding: str) -> bytes:
    plain, *others = _BYTE.split(text)
    data = plain.encode(encoding)
    for number, rest in zip(others[::2], others[1::2], strict=True):
        data += bytes.fromhex(number) + rest.encode(encoding)
    return data


def said(data: bytes) -> str:
    """Return what the error says of a job file, behind the file's own name; empty if there is none."""
    try:
        parse_job(PLACE, decode(PLACE, data))
    except JobFileError as error:
        return str(error).removeprefix(str(PLACE)).removeprefix(",").removeprefix(":").strip()
    return ""


def _write(file: Path) -> None:
    told = iter([said(case.data) for case in cases(file)])
    lines = file.read_text("utf-8").split("\n")
    file.write_text("\n".join(f"-> {next(told)}" if line.startswith("->") else line for line in lines), "utf-8")


if __name__ == "__main__":
    for path in [Path(word) for word in sys.argv[1:]] or sorted(MALFORMED.glob("*.txt")):
        _write(path)
