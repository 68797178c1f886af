"""A job as a person sees it: a progress bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import contextlib
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..job import Job
from ..life.accounting import Progress as Figures
from ..life.tables import State

STEPS = {
    State.STAGING: "staging program and inputs",
    State.BOOTING: "starting the machine",
    State.RUNNING: "running",
    State.LEAVING: "stopping",
    State.COLLECTING: "collecting the results",
    State.REMOVING: "removing the machine",
    State.ENDED: "done",
}


def printable(text: str) -> str:
    """Return foreign text without anything that a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


class _LastingConsole(Console):
    """A console that does not end the program when its reader has gone: the job goes on without one."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Terminal:
    """An `Audience` at a terminal or a log file."""

    def __init__(self, job: Job) -> None:
        self._console = _LastingConsole(stderr=True, highlight=False, markup=False)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            refresh_per_second=4,
            disable=not self._live,
        )
        self._task = self._bar.add_task(printable(job.name), total=1.0)
        self._name = printable(job.name)
        self._tenths = 0

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone, a full disk: nobody is left to be told
            self._bar.stop()

    def runs_on(self, what: str) -> None:
        """Say what will run the machine."""
        self._console.print(f"{self._name}: on {what}", soft_wrap=True)

    def state(self, state: State) -> None:
        """Say which step has begun."""
        self._bar.update(self._task, description=f"{self._name}: {STEPS[state]}")
        if not self._live:
            self._console.print(f"{self._name}: {STEPS[state]}", soft_wrap=True)

    def say(self, text: str) -> None:
        """Say what the guest has for the project."""
        with contextlib.suppress(OSError):
            self._console.print(f"{self._name}: {printable(text)}", soft_wrap=True)

    def progress(self, figures: Figures) -> None:
        """Move the bar; without a terminal, say each tenth."""
        done = figures.fraction_done or 0.0
        self._bar.update(self._task, completed=done)
        if not self._live and int(done * 10) > self._tenths:
            self._tenths = int(done * 10)
            self._console.print(f"{self._name}: {self._tenths * 10} % done", soft_wrap=True)
