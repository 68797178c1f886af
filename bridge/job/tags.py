"""Read a job file as BOINC's programs do: a stream of tags, loosely, but knowing the line of each.

Job files in the field are often not XML: there is no declaration, `&` stands for itself, attributes and comments come
and go, elements are not closed. BOINC's parser knows no tree. In an element that holds others it takes one tag after
the other; where it knows one it wants a text and the end behind it, and where it does not it goes on with the next. So
an unknown element is transparent: what stands in it counts as if it stood around it. Here the same stream becomes a
tree, of the elements that somebody knows. Pure, and linear for any text.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from .findings import Finding, Kind

SPACE = " \t\n\v\f\r"
"""White space in C; Python's own idea of it is larger."""

# Each alternative runs to its end or to that of the text, never to be tried again from within.
_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<!\[CDATA\[(?P<cdata>.*?)(?P<closed>\]\]>|\Z)|<(?P<tag>[^>]*)(?P<ended>>|\Z)|(?P<text>[^<]+)",
    re.DOTALL,
)
_ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "apos": "'", "amp": "&"}
_ENTITY = re.compile(r"&(?:(lt|gt|quot|apos|amp)|#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6}));")


class TagError(Exception):
    """The file's form is broken at this line and element."""

    def __init__(self, line: int, name: str, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.name = name


@dataclass(frozen=True, slots=True)
class Form:
    """What an element may hold: elements that have a text (`leaves`), and elements that hold others.

    A leaf says whether it can read a text. BOINC's parser does not look for the end behind one that it cannot read.
    """

    leaves: Mapping[str, Callable[[str], bool]] = field(default_factory=dict)
    inside: Mapping[str, Form] = field(default_factory=dict)


@dataclass(slots=True)
class Element:
    """One element: its name, the line of its tag (from 1), and its text, or its children.

    The text is without white space around it, with entities replaced; None where the element is written `<name/>`.
    `fault` says why there is no telling what its text is.
    """

    name: str
    line: int
    text: str | None = None
    children: list[Element] = field(default_factory=list)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    """A tag, whose `value` is its name with the slashes before and behind, or a text."""

    is_tag: bool
    value: str
    line: int


def parse(text: str, forms: Mapping[str, Form]) -> tuple[Element, list[Finding]]:
    """Return the tree of the file's one element, which is one of `forms`, and what was odd about its form.

    :raise TagError: it begins with something else, or an element that holds others has no end.
    """
    tokens = _tokens(text.removeprefix("\ufeff"))
    wanted = " or ".join(f"<{name}>" for name in forms)
    first = _first(tokens)
    if first is None:
        raise TagError(1, "", f"there is no element in it. A job file begins with {wanted}")
    if first.value not in forms or not first.is_tag:
        if first.is_tag and first.value.startswith("/"):
            raise TagError(first.line, first.value[1:], f"ends here, but never began; a job file begins with {wanted}")
        if first.is_tag and first.value.rstrip("/") in forms:
            raise TagError(first.line, first.value.rstrip("/"), "is closed in its own tag, so nothing is in it")
        if first.is_tag:
            raise TagError(first.line, first.value.rstrip("/"), f"a job file begins with {wanted}")
        raise TagError(first.line, "", f"a job file begins with {wanted}, not with {first.value!r:.60}")
    builder = _Builder(tokens, Element(first.value, first.line), forms[first.value])
    return builder.tree(), [*builder.odd, *_behind(tokens, first.value)]


def _behind(tokens: Iterator[_Token], root: str) -> Iterator[Finding]:
    """Say that there is more behind the end, which BOINC's programs never see."""
    with contextlib.suppress(TagError):
        if (more := next(tokens, None)) is not None:
            sentence = f"stands behind </{root}>, where nobody reads on"
            yield (
                Finding(more.line, more.value.strip("/"), sentence, Kind.IGNORED)
                if more.is_tag
                else Finding(more.line, root, f"{more.value!r:.60} {sentence}", Kind.IGNORED)
            )


def _first(tokens: Iterator[_Token]) -> _Token | None:
    for token in tokens:
        if token.is_tag and token.value.startswith("?"):
            continue
        if token.is_tag and token.value.upper() == "!DOCTYPE":
            continue
        return token
    return None


def _tokens(text: str) -> Iterator[_Token]:
    """Hand out tags and texts; a comment or white space is none, nor is a text that the end of the file cuts short.

    :raise TagError: the end of the file cuts something else short.
    """
    position, line = 0, 1
    for found in _TOKEN.finditer(text):
        line += text.count("\n", position, found.start())
        position = found.start()
        if found["tag"] is not None:
            if not found["ended"]:
                raise TagError(line, "", f"the file ends in the middle of a tag, {found[0]!r:.60}. Is it cut off?")
            yield _Token(True, _tag_name(found["tag"], line), line)
        elif found["cdata"] is not None:
            if not found["closed"]:
                raise TagError(line, "", "a CDATA section begins here and has no end. Close it with ]]>")
            yield _Token(False, found["cdata"].strip(SPACE), line)
        elif found["text"] is not None and found.end() < len(text) and (word := found["text"].strip(SPACE)):
            blank = found["text"][: len(found["text"]) - len(found["text"].lstrip(SPACE))]
            yield _Token(False, _ENTITY.sub(_replace, word), line + blank.count("\n"))
        elif found[0].startswith("<!--") and not found[0].endswith("-->"):
            raise TagError(line, "", "a comment begins here and has no end. Close it with -->")


def _tag_name(inside: str, line: int) -> str:
    """Return a tag's name, with a slash behind it if one ends the tag.

    To BOINC's parser any slash in an attribute does that. So the text of `<virtualmachine url="a/b">` would be none,
    and a program that is meant for a machine would run on the host.
    """
    name = re.match(rf"[^{SPACE}]*", inside)
    assert name is not None
    if name[0].upper() == "!DOCTYPE" and "[" in inside:
        raise TagError(line, "!DOCTYPE", "declares entities, which a job file has no use for. Leave it out")
    return name[0] + ("/" if inside[name.end() :].rstrip(SPACE).endswith("/") else "")


def _replace(entity: re.Match[str]) -> str:
    name, decimal, hexadecimal = entity.groups()
    if name:
        return _ENTITIES[name]
    number = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(number) if number < 0xD800 or 0xDFFF < number <= 0x10FFFF else entity[0]


@dataclass(slots=True)
class _Open:
    """An element that is open, what it may hold, and which unknown elements, and how many, are open in it."""

    element: Element
    form: Form
    unknown: Counter[str] = field(default_factory=Counter)
    depth: int = 0


class _Builder:
    """Builds the tree from the tokens behind the first tag."""

    def __init__(self, tokens: Iterator[_Token], root: Element, form: Form) -> None:
        self._tokens = tokens
        self._open = [_Open(root, form)]
        self._too_early: tuple[_Token, Element] | None = None
        self._swallower: Element | None = None
        self.odd: list[Finding] = []

    def tree(self) -> Element:
        root = self._open[0].element
        while self._open:
            token = self._next()
            if not token.is_tag:
                self._stray_text(token)
            elif token.value.startswith("/"):
                self._end(token)
            elif not token.value.startswith(("?", "!")):
                self._begin(token)
        return root

    def _next(self) -> _Token:
        token = next(self._tokens, None)
        if token is None:
            raise self._unclosed()
        return token

    def _unclosed(self) -> TagError:
        """Say what is most likely the one that was forgotten."""
        if self._swallower is not None:
            return TagError(self._swallower.line, self._swallower.name, f"has no </{self._swallower.name}>. Add it")
        if self._too_early is not None:
            token, inner = self._too_early
            problem = f"ends here, but <{inner.name}> from line {inner.line} is still open. Close that before"
            return TagError(token.line, token.value[1:], problem)
        inner = self._open[-1].element
        return TagError(inner.line, inner.name, f"has no </{inner.name}>. Add it")

    def _say(self, line: int, name: str, sentence: str, kind: Kind) -> None:
        self.odd.append(Finding(line, name, sentence, kind))

    def _stray_text(self, token: _Token) -> None:
        here = self._open[-1]
        if not here.depth:
            self._say(
                token.line, here.element.name, f"{token.value!r:.60} is text of no element and ignored", Kind.UNKNOWN
            )

    def _end(self, token: _Token) -> None:
        name, here = token.value[1:], self._open[-1]
        if name == here.element.name:
            self._open.pop()
        elif here.unknown[name]:
            here.unknown[name] -= 1
            here.depth -= 1
        elif self._is_open(name):
            self._too_early = self._too_early or (token, here.element)
        else:
            self._say(token.line, name, "ends here, but never began; it is ignored", Kind.UNKNOWN)

    def _is_open(self, name: str) -> bool:
        return any(open_.element.name == name for open_ in self._open)

    def _begin(self, token: _Token) -> None:
        name, here = token.value.rstrip("/"), self._open[-1]
        closed = name != token.value
        if name in here.form.leaves:
            here.element.children.append(self._leaf(name, closed, token.line))
        elif name in here.form.inside and not closed:
            element = Element(name, token.line)
            here.element.children.append(element)
            self._open.append(_Open(element, here.form.inside[name]))
        elif name in here.form.inside:
            self._say(token.line, name, "is empty and ignored", Kind.IGNORED)
        elif self._is_open(name):
            sentence = f"begins again before its end; the one from line {here.element.line} goes on here"
            self._say(token.line, name, sentence, Kind.IGNORED)
        else:
            here.element.children.append(Element(name, token.line))
            if not closed:
                here.unknown[name] += 1
                here.depth += 1

    def _leaf(self, name: str, closed: bool, line: int) -> Element:
        """Take an element's text and its end. If anything else comes, that is gone too, as with BOINC's parser."""
        element, here = Element(name, line), self._open[-1]
        if closed:
            return element
        token = self._next_in(element)
        text = ""
        if not token.is_tag:
            text = token.value
            if not here.form.leaves[name](text):
                element.text = text
                here.unknown[name] += 1
                here.depth += 1
                return element
            token = self._next_in(element)
        if token.is_tag and token.value == f"/{name}":
            element.text = text
            return element
        element.fault = f"has no </{name}>" + (" behind its text" if text else "")
        if self._swallower is None and token.is_tag and self._is_open(token.value[1:]):
            self._swallower = element
        return element

    def _next_in(self, element: Element) -> _Token:
        token = next(self._tokens, None)
        if token is None:
            self._swallower = self._swallower or element
            raise self._unclosed()
        return token
