"""The kinds of text that elements have: how each is read, by voluptuous, and how a page or an error calls it.

Those called `old_...` are read as the old programs do, digit for digit: a number is what C's `strtol` or `strtod` takes
whole, a text that is none is as if the element were not there. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from protocol.codec import MAX_TEXT_BYTES, is_name

from .command_line import split_command_line
from .patterns import file_pattern

_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_HEXADECIMAL = re.compile(r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[+-]?(inf|infinity|nan(\([0-9A-Za-z_]*\))?)", re.IGNORECASE)
_LEAVES = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\].*)?\Z", re.DOTALL)
"""What does not stay in the folder: absolute, here or on Windows, or going up."""


class Said(vol.Invalid):
    """A value is wrong, and this is the whole sentence."""


def any_text(text: str) -> bool:
    """Say that this text can be read: most can."""
    del text
    return True


@dataclass(frozen=True, slots=True)
class Value:
    """A kind of text. `check` returns the value of a text, None for none, or raises `vol.Invalid`.

    It gets None for an element written `<name/>`. `phrase` is what it is ("a whole number ..."). `lenient`: what is
    wrong is ignored, as the old programs do, and not refused. `reads` says whether the old program finds a value.
    """

    phrase: str
    check: Callable[[str | None], Any]
    lenient: bool = False
    reads: Callable[[str], bool] = any_text


def _given(check: Any) -> Callable[[str | None], Any]:
    """Return a check that takes an empty element for none."""
    schema = vol.Schema(check)
    return lambda text: schema(text) if text else None


def _string(check: Any) -> Callable[[str | None], Any]:
    """Return a check that leaves an empty text empty: it counts, and says that there is nothing."""
    schema = vol.Schema(check)
    return lambda text: schema(text) if text else ""


def _word(text: str) -> str:
    """Take what a C program could: to it a text ends at a NUL, which nobody means who writes more behind it."""
    if "\x00" in text:
        raise Said(f"{text!r:.80} holds the control character U+0000. Leave it out")
    return text


def _without(text: str, control: str) -> str:
    if found := re.search(control, text):
        raise Said(f"{text!r:.80} holds the control character U+{ord(found[0]):04X}. Leave it out")
    return text


def _line(text: str) -> str:
    return _without(text, r"[\x00-\x1f\x7f]")


def _tellable(text: str) -> str:
    """Take what a guest can be told in a line (docs/PROTOCOL.md, R2 and R7)."""
    _without(text, r"[\x00-\x08\x0a-\x1f\x7f]")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Said(f"{text!r:.80} is not UTF-8. Save the file as UTF-8") from None
    if size > MAX_TEXT_BYTES:
        raise Said(
            f"{text!r:.80} has {size:,} bytes, and a guest can be told {MAX_TEXT_BYTES:,}. Put it into an input file"
        )
    return text


def _plain_name(text: str) -> str:
    name = re.sub(r"\A(\./+)+", "", text)
    if name in ("", ".", "..") or re.search(r"[/\\:]", name):
        raise Said(f"{text!r:.80} is no plain file name. Files lie in the job directory itself, without a path")
    if name.startswith("."):
        raise Said(f"{text!r:.80} begins with a point, as names of the bridge's own do. Choose another")
    if not is_name(_tellable(name)):
        raise Said(f"{text!r:.80} is too long for a file name. Choose a shorter one")
    return name


def _not_for_guests(name: str) -> str:
    """Refuse the file that says who the volunteer is, and has the key to the account."""
    if name == "init_data.xml":
        raise Said(
            "'init_data.xml' says who the volunteer is, which no machine may know. What a program may know of the job, "
            "its library tells it"
        )
    return name


def _not_taken(taken: Callable[[str], bool]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if taken(re.sub(r"\A(\./+)+", "", name).partition("/")[0]):
            raise Said(f"{name!r:.80} is a name that the bridge or the BOINC client uses itself. Choose another")
        return name

    return check


def _in_slot(text: str) -> str:
    if _LEAVES.match(text):
        raise Said(f"{text!r:.80} leaves the job directory. Name a file in it, without '..' and not absolute")
    return text


def _setting(text: str) -> str:
    if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", text):
        raise Said(f"{text!r:.80} is not NAME=VALUE")
    return _tellable(text)


def _arguments(text: str | None) -> tuple[str, ...]:
    return tuple(_tellable(word) for word in split_command_line(text or ""))


def _pattern(text: str) -> str:
    try:
        file_pattern(text)
    except re.error as error:
        hint = "Where a character stands for itself, a backslash goes before it"
        if text[0] in "*?":
            hint = "What is *.txt in a shell is \\.txt$ here"
        raise Said(f"{text!r:.80} is no regular expression: {error}. {hint}") from error
    return text


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}(\.0*)?", text, re.ASCII):
        raise vol.Invalid("no whole number")
    return int(text.partition(".")[0])


def _c_integer(text: str) -> int:
    """Read as `strtol(text, 0)` does."""
    found = _INTEGER.fullmatch(text)
    if not found or len(text) > 255:
        raise vol.Invalid("no number")
    digits = found[1]
    base = 16 if digits[1:2] in ("x", "X") else 8 if digits.startswith("0") else 10
    return int(digits, base) * (-1 if text.startswith("-") else 1)


def _c_double(text: str) -> float:
    """Read as `strtod` does; what is too large for a double is no number, as newer libraries of BOINC's have it."""
    if len(text) > 255:
        raise vol.Invalid("no number")
    if _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError:
            raise vol.Invalid("no double") from None
    if _NO_NUMBER.fullmatch(text):
        return math.nan if "nan" in text.lower() else math.copysign(math.inf, -1 if text.startswith("-") else 1)
    raise vol.Invalid("no number")


def _old(check: Any, empty: str | None) -> Callable[[str | None], Any]:
    """Return a check that reads `<name></name>` as `empty`, and `<name/>` as nothing."""
    schema = vol.Schema(check)

    def read(text: str | None) -> Any:
        if text is None or (not text and empty is None):
            raise Said("says nothing")
        return schema(text or empty)

    return read


def _old_flag(text: str | None) -> bool:
    if text is None:
        return True
    try:
        return _c_integer(text) != 0
    except vol.Invalid:
        raise Said(f"{text!r:.80} is neither 1 nor 0" if text else "says nothing") from None


def _flag(text: str | None) -> bool:
    if text is None:
        return True
    return bool(vol.Schema(vol.All(vol.In(("0", "1")), vol.Coerce(int)))(text))


def _time_limit(text: str) -> float | None:
    seconds = _c_double(text)
    if seconds < 0:
        raise vol.Invalid("in the past")
    return seconds if 0 < seconds <= 1e9 else None


def _c_long(text: str) -> int:
    """Read as `strtol` does where it is asked whether the number is too large."""
    number = _c_integer(text)
    if not -(2**63) <= number < 2**63:
        raise vol.Invalid("no long")
    return number


def _can(read: Callable[[str], Any]) -> Callable[[str], bool]:
    def reads(text: str) -> bool:
        try:
            read(text)
        except vol.Invalid:
            return False
        return True

    return reads


def _megabytes(text: str) -> int | None:
    megabytes = _c_double(text)
    if not 0 <= megabytes <= 1_048_576:
        raise vol.Invalid("no memory")
    return int(megabytes) or None


# The kinds.

TEXT = Value("text", _string(_word))
LINE = Value("text", _string(_line))
FOLDER = Value("a path", _string(_line))
PLAIN_NAME = Value("a plain file name", _string(_plain_name))
INPUT_NAME = Value("a plain file name", _string(vol.All(_plain_name, _not_for_guests)))
SLOT_FILE = Value("a file in the job directory", _string(vol.All(_word, _in_slot)))
SETTING = Value("NAME=VALUE", _string(_setting))
PATTERN = Value("a regular expression (ECMAScript)", _string(_pattern))
ARGUMENTS = Value("words, with quotes around one that has blanks", _arguments)

OLD_FLAG = Value("a switch: `<name/>`, 1 or 0", _old_flag, lenient=True, reads=_can(_c_integer))
OLD_WEIGHT = Value(
    "a number from 0 to 1e12",
    _old(vol.All(_c_double, vol.Range(min=0, max=1e12)), empty="0"),
    lenient=True,
    reads=_can(_c_double),
)
OLD_LIMIT = Value("a number of seconds", _old(_time_limit, empty="0"), lenient=True, reads=_can(_c_double))
OLD_NUMBER = Value("a whole number", _old(_c_long, empty="0"), lenient=True, reads=_can(_c_long))
OLD_MEMORY = Value("a number of MB", _old(_megabytes, empty="0"), lenient=True, reads=_can(_c_double))

FLAG = Value("a switch: `<name/>`, 1 or 0", _flag)
SECONDS = Value(
    "a number of seconds from 0 to 1e9", _given(vol.All(vol.Match(_DECIMAL), vol.Coerce(float), vol.Range(0, 1e9)))
)


def whole(low: int, high: int, unit: str) -> Value:
    """Return the kind of whole numbers from `low` to `high`, both included."""
    return Value(f"a whole number of {unit} from {low} to {high}", _given(vol.All(_whole, vol.Range(low, high))))


def choice(
    words: Iterable[str], otherwise: Callable[[str], str], *, also: Callable[[str], bool] = lambda text: False
) -> Value:
    """Return the kind of these words, and of those that `also` knows; `otherwise` returns the sentence for others."""
    known = tuple(words)

    def check(text: str) -> str:
        if text not in known and not also(text):
            raise Said(otherwise(text))
        return text

    return Value(" or ".join(f"`{word}`" for word in known), _given(check))


def result(value: Value, taken: Callable[[str], bool]) -> Value:
    """Return the kind of names of files that come into being, of which some are taken."""
    check, free = value.check, _not_taken(taken)
    return Value(value.phrase, lambda text: check(free(text) if text else text))
