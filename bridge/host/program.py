"""What a task of the job file means on this host: which file is run, with which words and which streams.

The rules are those of BOINC's wrapper and of VMwrapper, where they can be had together:

- Macros (`$PROJECT_DIR`, `$NTHREADS`, `$GPU_DEVICE_NUM`, `$PWD`) stand in `<command_line>`, `<exec_dir>` and
  `<setenv>`; in `<application>` there is only `$PROJECT_DIR`, at the beginning. Without a GPU `$GPU_DEVICE_NUM` stays.
- `boinc_resolve(NAME)` in a command line is the file that NAME stands for.
- A word "./NAME" of a command line becomes the file that NAME stands for, if the slot has only a link of this name: a
  link is of no use to a program that does not know BOINC, and one that does resolves again without harm. With an
  `<exec_dir>`, which VMwrapper does not have, "./NAME" lies there and is left alone.
- A command line is split before anything is put in: a path with a space in it stays one word.
- A program without the right to be executed is given it. One that is not in the slot is looked for in PATH, if it is a
  plain name. BOINC's wrapper refuses both; VMwrapper's job files call `tar` and `python`.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import JobFileError
from ..job import HostTask
from ..job.command_line import split_command_line
from ..job.names import JOB_FILE

NICENESS = {1: 19, 2: 10, 3: 0, 4: -10, 5: -15}
"""Of the priorities of a job file on Unix, as BOINC's wrapper has them."""

_MACRO = re.compile(r"\$(PROJECT_DIR|NTHREADS|GPU_DEVICE_NUM|PWD)")
_PROJECT_DIR = "$PROJECT_DIR"
_RESOLVE = re.compile(r"boinc_resolve\(([^)]*)\)")
_HELD = re.compile(r"\0(\d+)\0")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a program runs, for what the job file leaves open.

    `directory` is the slot, `resolve` tells which file a path in it stands for, `project_dir` may be empty. `device` is
    the number of the GPU, None without one. `arguments` are for programs that take those of the bridge too.
    """

    directory: Path
    resolve: Callable[[Path], Path]
    project_dir: str
    nthreads: int
    device: int | None
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is ready to be started. All paths are absolute.

    `argv` begins with the program's file. `env` (NAME=VALUE) is None for the bridge's own. Streams without a file are
    the bridge's own, but there is no input. `checkpoint`, `fraction`, `time_limit` and `priority` are as in `HostTask`,
    but a priority of None is the bridge's own. `slot` is the directory of the job.
    """

    name: str
    argv: tuple[str, ...]
    slot: Path
    cwd: Path
    env: tuple[str, ...] | None = None
    stdin: Path | None = None
    stdout: Path | None = None
    stderr: Path | None = None
    checkpoint: Path | None = None
    fraction: Path | None = None
    time_limit: float | None = None
    priority: int | None = None
    multi_process: bool = False


def prepare(task: HostTask, around: Surroundings) -> Program:
    """Say what `task` is here and now: the files that it names must be there.

    :raise JobFileError: one is not; the message names the job file, the line, the element and what to do.
    """
    around = replace(around, directory=Path(os.path.abspath(around.directory)))
    meaning = _Meaning(task, around)
    cwd = meaning.exec_dir()
    more = around.arguments if task.takes_more_arguments else ()
    return Program(
        name=task.application,
        argv=(meaning.program(), *meaning.words(), *more),
        slot=around.directory,
        cwd=cwd,
        env=meaning.environment(),
        stdin=meaning.stdin(),
        stdout=meaning.stream(task.stdout),
        stderr=meaning.stream(task.stderr),
        checkpoint=None if task.checkpoint_filename is None else around.directory / task.checkpoint_filename,
        fraction=None if task.fraction_done_filename is None else around.directory / task.fraction_done_filename,
        time_limit=task.time_limit or None,
        priority=task.priority,
        multi_process=task.multi_process,
    )


class _Meaning:
    """One task, read in its surroundings."""

    def __init__(self, task: HostTask, around: Surroundings) -> None:
        self._task = task
        self._around = around
        self._values = {
            "PROJECT_DIR": around.project_dir or ".",
            "NTHREADS": str(around.nthreads),
            "PWD": str(around.directory),
        }
        if around.device is not None:
            self._values["GPU_DEVICE_NUM"] = str(around.device)

    def program(self) -> str:
        name = self._task.application
        if name.startswith(_PROJECT_DIR):
            written = self._values["PROJECT_DIR"] + name.removeprefix(_PROJECT_DIR)
            file = Path(os.path.abspath(self._around.directory / written))
        else:
            file = self._resolve(name)
        if not file.exists():
            found = shutil.which(name) if "/" not in name else None
            if found is None:
                stands = "" if file == self._around.directory / name else f" (it stands for {file})"
                raise self._error(
                    "application",
                    f"there is no file {name!r}{stands}. Send it along with the application's version or the work"
                    " unit, under this name",
                )
            return found
        if not file.is_file():
            raise self._error("application", f"{name!r} is no file that could be run. Name the program itself")
        self._let_run(file)
        return str(file)

    def words(self) -> list[str]:
        """Return the words of the command line, with everything put in."""
        text = self._task.command_line
        if "\0" in text:
            raise self._error("command_line", "it holds a NUL, which no program can be given. Leave it out")
        held: list[str] = []

        def hold(value: str) -> str:
            held.append(value)
            return f"\0{len(held) - 1}\0"

        def fill(word: str) -> str:
            return _HELD.sub(lambda found: fill(held[int(found[1])]), word)

        text = _MACRO.sub(lambda found: hold(self._value(found)), text)
        text = _RESOLVE.sub(lambda found: hold(str(self._resolve(fill(found[1])))), text)
        if "boinc_resolve(" in text:
            raise self._error("command_line", "'boinc_resolve(' has no ')'. Close it after the name")
        return [self._meant(fill(word)) for word in split_command_line(text)]

    def environment(self) -> tuple[str, ...] | None:
        """What is not NAME=VALUE sets nothing; but that something is written means that the bridge's own is not."""
        settings = self._task.environment
        return tuple(setting for setting in map(self.put_in, settings) if "=" in setting) if settings else None

    def exec_dir(self) -> Path:
        if self._task.exec_dir is None:
            return self._around.directory
        cwd = self._around.directory / self.put_in(self._task.exec_dir)
        if not cwd.is_dir():
            raise self._error("exec_dir", f"there is no folder {cwd}. It must be there when the program starts")
        return Path(os.path.abspath(cwd))

    def stdin(self) -> Path | None:
        file = self.stream(self._task.stdin)
        if file is not None and not file.exists():
            stands = "" if file.name == self._task.stdin else f" (it stands for {file})"
            raise self._error(
                "stdin_filename",
                f"there is no file {self._task.stdin!r}{stands}. Send it along with the work unit, under this name",
            )
        return file

    def stream(self, name: str | None) -> Path | None:
        return None if name is None else self._resolve(name)

    def put_in(self, text: str) -> str:
        return _MACRO.sub(self._value, text)

    def _value(self, macro: re.Match[str]) -> str:
        return self._values.get(macro[1], macro[0])

    def _resolve(self, name: str) -> Path:
        return Path(os.path.abspath(self._around.resolve(self._around.directory / name)))

    def _meant(self, word: str) -> str:
        if not word.startswith("./") or self._task.exec_dir is not None:
            return word
        here = self._around.directory / word
        there = self._around.resolve(here)
        return word if there == here or not os.path.lexists(here) else os.path.abspath(there)

    def _let_run(self, file: Path) -> None:
        mode = file.stat().st_mode
        if mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
            return
        try:
            file.chmod(mode | stat.S_IXUSR)
        except OSError as error:
            raise self._error(
                "application",
                f"{file} may not be executed, and that cannot be changed: {error.strerror}. Mark it as <executable/> in"
                " the application's version",
            ) from error

    def _error(self, element: str, problem: str) -> JobFileError:
        return JobFileError(self._around.directory / JOB_FILE, self._task.line, element, problem)
