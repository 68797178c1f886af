"""version.xml: what BOINC's `bin/update_versions` reads in the folder of an application's version. Pure.

    <version>
      <api_version>  without it the client would offer System V shared memory, as 20 years ago
      <is_wrapper>   the program does not compute itself: the client starts it at nice 10 in the ordinary scheduling
                     class. Else the machine would inherit nice 19 and SCHED_IDLE, and starve on a busy computer
      <file>         physical_name; logical_name is the name in the slot, which may be in a folder; gzip lets the
                     server keep and the client take a compressed copy

Nothing asks for <copy_file>: the program follows the links that the client puts into the slot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .files import BundleFile
from .program import API_VERSION

VERSION_FILE = "version.xml"
_MARK = "<!-- Written by vmbridge package. -->"


def version_xml(files: Iterable[BundleFile]) -> str:
    """Return the file's text. The names are plain, so nothing in it needs escaping."""
    lines = ["<version>", f"  {_MARK}", f"  <api_version>{API_VERSION}</api_version>", "  <is_wrapper/>"]
    for file in files:
        lines += ["  <file>", f"    <physical_name>{file.name}</physical_name>"]
        if file.open_name is not None:
            lines.append(f"    <logical_name>{file.open_name}</logical_name>")
        if file.main_program:
            lines.append("    <main_program/>")
        if file.gzip:
            lines.append("    <gzip/>")
        lines.append("  </file>")
    return "\n".join([*lines, "</version>", ""])


def files_named_in(text: str) -> frozenset[str] | None:
    """Return the names of the files that a version.xml of ours lists; None if it is not ours."""
    if _MARK not in text:
        return None
    return frozenset(re.findall(r"<physical_name>(.*?)</physical_name>", text))
