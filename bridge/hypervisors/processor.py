"""Which processor this computer has: what was saved on one is not always understood by another."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def processor() -> str:
    """Return the name of its model, as the system tells it."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    return model_in(told) or platform.processor() or platform.machine()


def model_in(cpuinfo: str) -> str | None:
    """Return the model that a /proc/cpuinfo names first."""
    found = re.search(r"^model name\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE)
    return None if found is None else found[1]
