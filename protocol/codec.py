"""Bytes to message and back. Pure; every R rule of docs/PROTOCOL.md is enforced here, and the order in which broken
rules are named is the document's.

Guests of Python 3.7 use this file too (`guest_side/python/bundle.py`)."""

from __future__ import annotations

import enum
import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields

from . import VERSION
from .errors import Incomplete, LocalProtocolError, RemoteProtocolError
from .messages import KINDS, VERSIONED, FractionDone, Message, Wire

MAX_BYTES = 65_536
MAX_NUMBER_BYTES = 64
MAX_LINES = 1_024
MAX_LINE_BYTES = 4_096
MAX_TEXT_BYTES = 1_024
MAX_NAME_BYTES = 255

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COUNT = re.compile(r"[0-9]{1,16}")
_CODE = re.compile(r"-?[0-9]{1,10}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_BLANK = " \t"


def size_limit(kind: str) -> int:
    """Return how many bytes a reader takes of a file of this kind at most (R1)."""
    return MAX_NUMBER_BYTES if KINDS[kind] is FractionDone else MAX_BYTES


def decode(kind: str, data: bytes) -> Message:
    """Read the message `kind` (a key of `KINDS`) from the content of its file.

    :raise Incomplete: the last newline is missing.
    :raise RemoteProtocolError: another rule is broken; the error names it.
    """
    message = KINDS[kind]
    lines = _lines(data, size_limit(kind))
    if message is FractionDone:
        return FractionDone(_bare_number(lines))
    return _build(message, _pairs(message, lines))


def encode(message: Message) -> bytes:
    """Write `message` as the content of its file.

    :raise LocalProtocolError: a value breaks a rule: what we write, we could read.
    """
    if isinstance(message, FractionDone):
        data = _spell(message.value).encode() + b"\n"
    else:
        head = [f"protocol {VERSION}"] if type(message) in VERSIONED else []
        data = "".join(line + "\n" for line in [*head, *_spell_keys(message)]).encode("utf-8", "surrogatepass")
    try:
        if decode(_KIND_OF[type(message)], data) != message:
            raise LocalProtocolError("R6", f"{message!r} would not be read as it was written")
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.rule, error.reason) from error
    return data


def keys(message: type[Message]) -> dict[str, Wire]:
    """Return the keys of a message in the order of the table, without `protocol`."""
    return _KEYS[message]


_KEYS: dict[type[Message], dict[str, Wire]] = {
    message: {field.name: field.metadata["wire"] for field in fields(message)} for message in KINDS.values()
}
_KIND_OF = {message: kind for kind, message in KINDS.items()}


# From bytes to lines


def _lines(data: bytes, limit: int) -> Iterator[str]:
    """Check R1 to R4 for the file, then hand out lines, checking R5 and R7 for each as it is asked for."""
    if len(data) > limit:
        raise RemoteProtocolError("R1", f"{len(data):,} bytes, more than {limit:,}")
    if not data.endswith(b"\n"):
        raise Incomplete("R3", "no newline at the end")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("R2", f"no UTF-8 at byte {error.start}") from error
    lines = text[:-1].split("\n")
    if len(lines) > MAX_LINES:
        raise RemoteProtocolError("R4", f"{len(lines):,} lines, more than {MAX_LINES:,}")
    return (_line(line[:-1] if line.endswith("\r") else line) for line in lines)


def _line(line: str) -> str:
    if len(line.encode()) > MAX_LINE_BYTES:
        raise RemoteProtocolError("R5", f"a line of more than {MAX_LINE_BYTES:,} bytes: {_quote(line)}")
    found = _CONTROL.search(line)
    if found:
        raise RemoteProtocolError("R7", f"control character U+{ord(found[0]):04X} in {_quote(line)}")
    return line


# From lines to keys


def _pairs(message: type[Message], lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Hand out key and value of each line, having seen to `protocol` (R6, R10)."""
    versioned = message in VERSIONED
    for line in lines:
        if not line:
            continue
        key, _, value = line.partition(" ")
        if not _KEY.fullmatch(key):
            raise RemoteProtocolError("R6", f"{_quote(line)} does not begin with a key")
        if versioned:
            _check_version(key, value)
            versioned = False
            yield "protocol", value
            continue
        yield key, value
    if versioned:
        raise RemoteProtocolError("R10", "the first line is not 'protocol' and a version")


def _check_version(key: str, value: str) -> None:
    if key != "protocol":
        raise RemoteProtocolError("R10", f"the first line has the key {key!r}, not 'protocol'")
    if value.strip(_BLANK) != str(VERSION):
        raise RemoteProtocolError("R10", f"protocol {_quote(value)} is not known here, only protocol {VERSION}")


def _build(message: type[Message], pairs: Iterator[tuple[str, str]]) -> Message:
    known = keys(message)
    values: dict[str, object] = {}
    lists: dict[str, list[object]] = {key: [] for key, wire in known.items() if wire.many}
    seen = set()
    for key, value in pairs:
        wire = known.get(key)
        if wire is None and not (key == "protocol" and message in VERSIONED):
            continue
        if key in seen and not (wire and wire.many):
            raise RemoteProtocolError("R8", f"the key {key!r} stands there twice")
        seen.add(key)
        if wire is None:
            continue
        if wire.many:
            lists[key].append(_READERS[wire.form](key, value, wire))
        else:
            values[key] = _READERS[wire.form](key, value, wire)
    for key, wire in known.items():
        if wire.required and key not in values:
            raise RemoteProtocolError("R9", f"the key {key!r} is missing")
    return message(**values, **{key: tuple(found) for key, found in lists.items()})  # type: ignore[arg-type]  # checked per key above


# From value to Python, a function for each wire type


def _word(key: str, value: str, wire: Wire) -> enum.Enum:
    assert wire.words is not None
    try:
        return wire.words(value.strip(_BLANK))
    except ValueError:
        choice = ", ".join(word.value for word in wire.words)
        raise RemoteProtocolError(wire.rule, f"{key} is {_quote(value)}, not one of: {choice}") from None


def _integer(pattern: re.Pattern[str], key: str, value: str, wire: Wire) -> int:
    bare = value.strip(_BLANK)
    if not pattern.fullmatch(bare) or not wire.low <= int(bare) <= wire.high:
        span = f"a whole number from {int(wire.low)} to {int(wire.high)}"
        raise RemoteProtocolError(wire.rule, f"{key} is {_quote(value)}, not {span}")
    return int(bare)


def _number(key: str, value: str, wire: Wire) -> float:
    bare = value.strip(_BLANK)
    number = float(bare) if len(bare) <= 32 and _NUMBER.fullmatch(bare) else math.nan
    if not wire.low <= number <= wire.high:  # false for NaN too
        raise RemoteProtocolError(wire.rule, f"{key} is {_quote(value)}, not a number from 0 to {wire.high:g}")
    return number


def _bare_number(lines: Iterator[str]) -> float:
    first, *more = lines
    if more:
        raise RemoteProtocolError("R15", f"{len(more) + 1} lines, not one number")
    return _number("fraction_done", first, Wire("fraction", "R15", high=1))


def _name(key: str, value: str, wire: Wire) -> str:
    name = value.strip(_BLANK)
    if not is_name(name):
        raise RemoteProtocolError(wire.rule, f"{key} is {_quote(value)}, not a plain file name")
    return name


def is_name(name: str) -> bool:
    """Say whether `name` may stand for a file in `in/` and `out/` (R16)."""
    size = len(name.encode("utf-8", "surrogateescape"))
    return (
        0 < size <= MAX_NAME_BYTES and name[0] != "." and not re.search(r"[/\\:]", name) and not _CONTROL.search(name)
    )


def _setting(key: str, value: str, wire: Wire) -> str:
    if not _SETTING.fullmatch(value):
        raise RemoteProtocolError(wire.rule, f"{key} is {_quote(value)}, not NAME=VALUE")
    return value


def _text(key: str, value: str, wire: Wire) -> str:
    if len(value.encode()) > MAX_TEXT_BYTES:
        raise RemoteProtocolError(wire.rule, f"{key} has more than {MAX_TEXT_BYTES:,} bytes: {_quote(value)}")
    return value


_READERS: dict[str, Callable[[str, str, Wire], object]] = {
    "word": _word,
    "count": functools.partial(_integer, _COUNT),
    "code": functools.partial(_integer, _CODE),
    "number": _number,
    "name": _name,
    "setting": _setting,
    "text": _text,
}


# From Python to text


def _spell_keys(message: Message) -> Iterator[str]:
    for key, wire in keys(type(message)).items():
        value = getattr(message, key)
        for one in value if wire.many else () if value is None else (value,):
            yield f"{key} {_spell(one)}"


def _spell(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value)


def _quote(text: str) -> str:
    """Quote foreign text for a person: short, on one line, nothing that a terminal would obey."""
    return ascii(text if len(text) <= 60 else text[:60] + "…")
