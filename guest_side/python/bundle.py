# SPDX-License-Identifier: Apache-2.0
"""Make one file of `boinc.py` and what it needs of `protocol`: the form in which a program brings it along.

The codec is the host's own, word for word. Its messages are dataclasses, for which Debian's python3-minimal and
Python 3.7 lack what they need, so the tables that it reads are written down as named tuples.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields

from protocol import VERSION, codec, errors, messages

from . import boinc

__all__ = ["KINDS", "bundle"]

KINDS = (
    "init_data",
    "trickle_down",
    "uploaded",
    "fraction_done",
    "creditreport",
    "checkpoint",
    "finished",
    "temporary_exit",
    "trickle_up",
    "upload",
)
"""The messages that a program reads or writes; none of them has a version."""

_IMPORTS = """from __future__ import annotations

import contextlib
import enum
import functools
import math
import os
import re
import signal
import sys
import threading
import time
from collections import namedtuple
"""

_TYPES_ONLY = """
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any, NoReturn
"""


def bundle() -> str:
    """Return the source of the module `boinc` as one file without any needs."""
    source = inspect.getsource(boinc)
    head = ["# SPDX-License-Identifier: Apache-2.0", f'"""{boinc.__doc__}"""', "", _IMPORTS + _TYPES_ONLY]
    parts = [
        "\n".join(head),
        "# What stands on this line and below, up to the next such line, is made from the host's own code.",
        _without(inspect.getsource(errors), frozenset()),
        _tables(),
        _without(inspect.getsource(codec), frozenset({"_KEYS"})),
        "# The library.",
        _without(source, frozenset()),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _without(source: str, names: frozenset[str]) -> str:
    """Return a module without its docstring, its imports and what it assigns to `names`."""
    lines = source.split("\n")
    for node in ast.parse(source).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_named = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in names
        if is_docstring or is_named or isinstance(node, (ast.Import, ast.ImportFrom)):
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(line for line in lines if not line.startswith("# SPDX")).strip("\n")


def _tables() -> str:
    """Write down the messages and their keys, as the codec looks for them."""
    kinds = {kind: messages.KINDS[kind] for kind in KINDS}
    lines = [
        f"VERSION = {VERSION}",
        'Wire = namedtuple("Wire", "form rule low high many required words", defaults=(0, 0, False, False, None))',
        *(_named_tuple(message) for message in kinds.values()),
        f"KINDS = {{{', '.join(f'{kind!r}: {message.__name__}' for kind, message in kinds.items())}}}",
        "VERSIONED = frozenset()",
        "_KEYS = {",
        *(line for message in kinds.values() for line in _keys(message)),
        "}",
    ]
    return "\n".join(lines)


def _named_tuple(message: type[messages.Message]) -> str:
    names = " ".join(field.name for field in fields(message))
    defaults = tuple(field.default for field in fields(message) if field.default is not MISSING)
    return f'{message.__name__} = namedtuple("{message.__name__}", "{names}", defaults={defaults!r})'


def _keys(message: type[messages.Message]) -> Iterator[str]:
    yield f"    {message.__name__}: {{"
    for key, wire in codec.keys(message).items():
        judged = f"{wire.form!r}, {wire.rule!r}, {wire.low!r}, {wire.high!r}, {wire.many!r}, {wire.required!r}"
        yield f"        {key!r}: Wire({judged}),"
    yield "    },"
