"""The patterns of `<zip_output>`: regular expressions as C++ has them (ECMAScript's), for Python's `re`. Pure."""

from __future__ import annotations

import re

_CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\v\\f\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
    "d": "0-9",
    "w": "A-Za-z0-9_",
    "s": " \\t\\n\\v\\f\\r",
}
_PIECE = re.compile(r"(?P<class>\[\^?(?:\\.|\[:[a-z]+:\]|[^\]\\])*\])|\\c(?P<control>[A-Za-z])|\\.|.", re.DOTALL)
_IN_CLASS = re.compile(r"\[:(?P<name>[a-z]+):\]|\\c(?P<control>[A-Za-z])|\\.|(?P<doubled>[\[&|~])|.", re.DOTALL)


def file_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern; a file is meant if it is found anywhere in the file's name (`search`).

    :raise re.error: it is none.
    """
    try:
        return re.compile(_PIECE.sub(_piece, text), re.ASCII)
    except (OverflowError, RecursionError) as error:
        raise re.error(str(error)) from error


def _piece(found: re.Match[str]) -> str:
    if found["control"]:
        return _control(found)
    if found[0] == "[":
        raise re.error("a [ has no ]")
    if not found["class"]:
        return found[0]
    head, inside = ("[^", found[0][2:-1]) if found[0].startswith("[^") else ("[", found[0][1:-1])
    if not inside:
        return r"[\s\S]" if head == "[^" else r"(?!)"
    return head + _IN_CLASS.sub(_in_class, inside) + "]"


def _in_class(found: re.Match[str]) -> str:
    if name := found["name"]:
        if name not in _CLASSES:
            raise re.error(f"[:{name}:] is no class")
        return _CLASSES[name]
    if found["control"]:
        return _control(found)
    return f"\\{found[0]}" if found["doubled"] else found[0]


def _control(found: re.Match[str]) -> str:
    return f"\\x{ord(found['control']) % 32:02x}"
