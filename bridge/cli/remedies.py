"""What `vmbridge doctor --fix` does: commands of root's that need no decision and harm nothing; each is said first."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence

from ..hypervisors.finding import Finding
from ..hypervisors.said import recognised

WITHIN_S = 1800.0
"""Packages may come over a slow line."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAID_CHARS = 300

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command to its end and returns its exit status and what it said."""


def commands_of(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """Return the commands that help, each once: what is installed first may bring what is started after."""
    once = dict.fromkeys(command for finding in findings for command in finding.commands)
    installs = [command for command in once if command[0] == "apt-get"]
    update = [("apt-get", "update", "-qq")] if installs else []
    return [*update, *installs, *(command for command in once if command not in installs)]


def here(commands: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return those commands whose programs this computer has: apt-get is Debian's."""
    return [tuple(command) for command in commands if shutil.which(command[0], path=_PATH)]


def line(commands: Iterable[Sequence[str]]) -> str:
    """Return what somebody who is not root may type."""
    script = "; ".join(map(shlex.join, commands))
    return f"sudo sh -c {shlex.quote(script)}"


def apply(commands: Iterable[Sequence[str]], say: Callable[[str], None], run: Run | None = None) -> bool:
    """Run the commands one after the other, each said before; returns whether all went well."""
    good = True
    for command in commands:
        say(f"doing: {shlex.join(command)}")
        status, said = (run or _run)(command)
        if status:
            good = False
            reason = recognised(said)
            told = reason.sentence if reason else said.strip()[-_SAID_CHARS:] or f"it ended with status {status}"
            say(f"  that did not help: {told}")
        elif command[0] == "usermod":
            say(f"  it counts when {command[-1]} has logged in again; for BOINC's service, when it has been restarted")
    return good


def _run(command: Sequence[str]) -> tuple[int, str]:
    environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        return 1, f"it did not end in {WITHIN_S:.0f} seconds"
    except OSError as error:
        return 1, str(error)
    return done.returncode, done.stdout
