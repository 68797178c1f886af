"""What a project has: files, versions of its application, jobs. Values only.

Names are the server's own: the *physical* name is a file's name in the whole project, the *logical* one (`open_name`)
what the program knows it by.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .tags import text_of

PLATFORM = "x86_64-pc-linux-gnu"
APP = "science"
VERSION_NUMBER = 100


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A file that the client downloads, compressed with `gzip`. In the slot it gets a link file, with `copy` a copy."""

    physical: str
    logical: str
    content: bytes | Path
    main_program: bool = False
    executable: bool = False
    copy: bool = False
    sticky: bool = False
    gzip: bool = False

    def read(self) -> bytes:
        """Return the content."""
        return _read(self.content)

    def compressed(self) -> bytes:
        """Return the content, compressed."""
        return _compressed(self.content)

    def md5(self) -> str:
        """Return the MD5 of the content in hexadecimal."""
        return _md5(self.content)


def _read(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


@cache
def _compressed(content: bytes | Path) -> bytes:
    return gzip.compress(_read(content), compresslevel=1)


@cache
def _md5(content: bytes | Path) -> str:
    return hashlib.md5(_read(content), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class AppVersion:
    """A version of the application. Without `api_version` the client shares memory by System V's segments."""

    files: tuple[ProjectFile, ...]
    api_version: str | None = "7.20.0"
    is_wrapper: bool = False
    number: int = VERSION_NUMBER


@dataclass(frozen=True, slots=True)
class Job:
    """A work unit with its one result, `NAME_0`; `outputs` are logical names."""

    name: str
    command_line: str = ""
    inputs: tuple[ProjectFile, ...] = ()
    outputs: tuple[str, ...] = ()
    version: int = VERSION_NUMBER
    memory_bound: float = 5e8
    disk_bound: float = 1e10

    @property
    def result(self) -> str:
        """The result's name."""
        return f"{self.name}_0"

    def output_file(self, logical: str) -> str:
        """Return the physical name of an output."""
        return f"{self.result}_{self.outputs.index(logical)}"


def read_bundle(folder: Path) -> AppVersion:
    """Read the folder of an app version, described by its `version.xml` as a BOINC server's tools expect it."""
    xml = (folder / "version.xml").read_text()
    files = []
    for element in re.findall(r"<file>(.*?)</file>", xml, re.DOTALL):
        physical = text_of(element, "physical_name") or ""
        main = "<main_program/>" in element
        files.append(
            ProjectFile(
                physical=physical,
                logical=text_of(element, "logical_name") or physical,
                content=folder / physical,
                main_program=main,
                executable=main or "<executable/>" in element,
                copy="<copy_file/>" in element,
                sticky="<sticky/>" in element,
                gzip="<gzip/>" in element,
            )
        )
    return AppVersion(tuple(files), text_of(xml, "api_version"), "<is_wrapper/>" in xml)
