"""`vmbridge lint FILE...` and `vmbridge explain FILE`: what is to be said of job files, and what one would do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..errors import JobFileError
from ..job.advice import lint as lint_text
from ..job.findings import Finding, Kind
from ..job.schema import MAX_JOB_FILE_BYTES, decode, parse_job, read_text
from ..job.words import explain as in_words
from .terminal import printable

_STANDARD_INPUT = "-"


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def lint(files: tuple[str, ...]) -> None:
    """Say what is wrong, unknown, deprecated, dangerous or without effect in job files; `-` is standard input.

    A line for each: file, line, element, what it is, and what to write instead. Exits with 0 if there is nothing to
    say, with 1 if there are only warnings, with 2 if one of the files would not be run.
    """
    worst = 0
    for name in files:
        for finding in _findings(name):
            worst = max(worst, 2 if finding.kind is Kind.ERROR else 1)
            click.echo(printable(line(name, finding)).replace("\n", " "))
    sys.exit(worst)


@click.command()
@click.argument("file", metavar="FILE")
def explain(file: str) -> None:
    """Say in plain words, and in order, what would be done with the job file FILE (or `-`, standard input)."""
    for each in in_words(parse_job(_place(file), _text(file))):
        click.echo(printable(each).replace("\n", " "))


def line(name: str, finding: Finding) -> str:
    """Return a finding as a line, as compilers write theirs, so that editors find the place."""
    where = f"{name}:{finding.line}" if finding.line else name
    level = "error" if finding.kind is Kind.ERROR else "warning"
    what = f"<{finding.element:.60}>: " if finding.element else ""
    kind = "" if finding.kind is Kind.ERROR else f" [{finding.kind.value}]"
    return f"{where}: {level}: {what}{finding.sentence}{kind}"


def _findings(name: str) -> tuple[Finding, ...]:
    try:
        return lint_text(_place(name), _text(name))
    except JobFileError as error:  # it cannot be read at all
        return (Finding(error.line, error.element, error.problem),)


def _place(name: str) -> Path:
    return Path(os.path.abspath("job.xml" if name == _STANDARD_INPUT else name))


def _text(name: str) -> str:
    if name == _STANDARD_INPUT:
        return decode(Path(name), sys.stdin.buffer.read(MAX_JOB_FILE_BYTES + 1))
    return read_text(Path(name), Path(name))
