"""The one way to run another program while an image is built."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import ImageError, NotInstalled

PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "e2fsck": "e2fsprogs",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "xorriso": "xorriso",
}

_TAIL = 1_500
"""So many characters of what a program said last are told."""

_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""mke2fs is here, and Debian leaves it out of an ordinary user's PATH."""


def found(program: str) -> bool:
    """Say whether a program is where this module looks for it."""
    return shutil.which(program, path=_environment(None)["PATH"]) is not None


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed.

    :raise NotInstalled: it is not there; the message says what to install.
    :raise ImageError: it failed; the message holds the end of what it said.
    """
    return _run(words, cwd, env).stdout


def complaints_of(*words: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it said on standard error.

    :raise NotInstalled, ImageError: as `run`.
    """
    return _run(words, None, env).stderr


def _run(
    words: Sequence[str | Path], cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    with _found(words):
        done = subprocess.run(
            words,
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    if done.returncode:
        raise _failed(words, done.returncode, done.stderr)
    return done


@contextmanager
def output_of(*words: str | Path, env: Mapping[str, str] | None = None) -> Iterator[IO[bytes]]:
    """Run a program and let the block read what it prints, to the end or not.

    :raise NotInstalled, ImageError: as `run`.
    """
    with tempfile.TemporaryFile() as complaint:  # no pipe: nobody reads it before the end, however much is said
        with _found(words):
            child = subprocess.Popen(
                words, env=_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaint
            )
        assert child.stdout is not None
        with child.stdout:
            try:
                yield child.stdout
            except BaseException:
                child.terminate()  # mmdebstrap takes its folders away
                child.wait()
                raise
        if child.wait():
            complaint.seek(0)
            raise _failed(words, child.returncode, complaint.read().decode(errors="replace"))


@contextmanager
def _found(words: Sequence[str | Path]) -> Iterator[None]:
    program = str(words[0])
    try:
        yield
    except FileNotFoundError:
        raise NotInstalled(f"{program} not found. Install it: apt-get install {PACKAGES[program]}") from None


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The caller's environment in English, so that the same inputs give the same output everywhere."""
    inherited = {key: value for key, value in os.environ.items() if key != "LANGUAGE"}
    path = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}"
    return {**inherited, "PATH": path, "LC_ALL": "C", "TZ": "UTC", **(extra or {})}


def _failed(words: Sequence[str | Path], status: int, complaint: str) -> ImageError:
    command = shlex.join(map(str, words))
    return ImageError(f"{command} failed (status {status}): {complaint.strip()[-_TAIL:] or 'it said nothing'}")
