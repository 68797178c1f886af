"""BOINC's XML read as BOINC reads it: by tag, wherever it stands. Pure."""

from __future__ import annotations

import re
from html import unescape


def text_of(xml: str, tag: str) -> str | None:
    """Return the text of the first element `tag`; None if there is none."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", xml, re.DOTALL)
    return None if found is None else unescape(found.group(1)).strip()


def number_of(xml: str, tag: str, default: float = 0.0) -> float:
    """Return the number in the first element `tag`."""
    text = text_of(xml, tag)
    return default if text is None else float(text)
