"""Write docs/jobfile.md from the tables of elements: `python -m tests.reference` writes it, a test compares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bridge.job.elements import TABLES
from bridge.job.table import Row, Table

PAGE = Path(__file__).parent.parent / "docs" / "jobfile.md"

HEAD = """\
# The job file: every element

Written by `make reference` from the tables in `bridge/job/`, by which job files are also read; a test sees to it that
the two agree. [scientists.md](scientists.md#4-the-job) has an example to begin with, and there are some in
`tests/jobs/`.

`job.xml` is read as BOINC's own programs read theirs, so it need not be XML: unknown elements, attributes, comments and
stray text do no harm, `&` stands for itself, and numbers may be written as in C (`0x10`, `1e3`). An element that nobody
knows counts for nothing, but those in it count as if it were not there. What an old program ignores (`<weight>abc`) is
ignored here too, with a warning that has the line. What an old program refuses is refused, and so is whatever is wrong
with one of our own elements, and a file name that leads out of the job directory.

In the tables, *whose* is the program whose element it is: BOINC's `wrapper` and `vboxwrapper`,
CERN's `VMwrapper` of 2009, or `ours`. An element may stand once, unless it says *repeats*; of two, an old program's
last one counts, and ours are refused.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(_part(title, table) for title, table in TABLES.items())])


def _part(title: str, table: Table) -> str:
    head = ["| element | what it holds | if absent | whose | meaning |", "|---|---|---|---|---|"]
    lines = [f"## {title}", "", table.about, "", *head, *(_line(row) for row in table.rows), ""]
    if names := [name for name in table.elsewhere if name not in table.row]:
        lines += [f"Ignored here, with a warning: {', '.join(f'`<{name}>`' for name in names)}.", ""]
    return "\n".join(lines)


def _line(row: Row) -> str:
    holds = "elements" if isinstance(row.value, Table) else row.value.phrase
    cells = (f"`<{row.name}>`" + (", repeats" if row.repeats else ""), holds, _absent(row), row.whose.value, _said(row))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _absent(row: Row) -> str:
    if row.required:
        return "refused"
    if row.default_said:
        return row.default_said
    if isinstance(row.default, bool):
        return str(int(row.default))
    return f"{row.default:g}" if isinstance(row.default, float) else str(row.default or "")


def _said(row: Row) -> str:
    return re.sub(r"(?<!`)(</?\w+/?>)(?!`)", r"`\1`", " ".join(_sentences(row)))


def _sentences(row: Row) -> Iterator[str]:
    if not row.refused:
        yield row.meaning
    if row.deprecated:
        yield f"*Deprecated*: it {row.deprecated}."
    if row.refused:
        yield f"*Refused*: it {row.refused}."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
