"""How tests wait: for a condition, never for a time. A deadline is only there to end a test that fails.

A test machine may be busy with something else for seconds, at any moment, in any process. So no test takes it that
something has happened by now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

AT_MOST_S = 120.0
"""The deadline of everything that happens at once, or within a second or two, on a machine with nothing else to do."""


def until(condition: Callable[[], object], what: Callable[[], object] = str) -> None:
    """Wait until `condition` holds; if it does not, the failure says `what`."""
    deadline = time.monotonic() + AT_MOST_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {AT_MOST_S:g} seconds: {what()}"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """The process is gone or is only waited for: it runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
