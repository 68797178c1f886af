"""Command lines as BOINC's wrappers read them. Pure."""

from __future__ import annotations

import re


def split_command_line(text: str) -> tuple[str, ...]:
    """Split as BOINC's wrappers do: at white space; a word that begins with a quote runs to the next such quote.

    There are no escapes, and a quote in the middle of a word stands for itself.
    """
    words = re.findall(r"'([^']*)'?|\"([^\"]*)\"?|(\S+)", text, re.ASCII)
    return tuple(single or double or plain for single, double, plain in words)
