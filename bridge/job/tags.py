"""Read a job file as BOINC's programs do: tag by tag, loosely, but knowing the line of each.

Job files in the field are often not XML: there is no declaration, `&` stands for itself, attributes and comments come
and go. So this is no XML parser. It knows tags, text between them and comments; whatever has a matching end is a tree.
Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# Each alternative stops at the next bracket, and the inside of a tag is looked at by itself: linear for any text.
_MARKUP = re.compile(r"<!--.*?(?:-->|\Z)|<([^<>]*)>", re.DOTALL)
_TAG = re.compile(r"(/?)([A-Za-z_][\w.-]*)(?:\s[^<>]*)?", re.DOTALL)
_ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "apos": "'", "amp": "&"}
_ENTITY = re.compile(r"&(lt|gt|quot|apos|amp);")

MAX_DEPTH = 32


class TagError(Exception):
    """The file's form is broken at this line and element."""

    def __init__(self, line: int, name: str, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.name = name


@dataclass(slots=True)
class Element:
    """One element: its name, the line of its tag (from 1), its children, and the text directly in it, in pieces."""

    name: str
    line: int
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly in the element, without white space around it, with entities replaced."""
        return _ENTITY.sub(lambda found: _ENTITIES[found[1]], "".join(self.pieces).strip())


def parse(text: str) -> Element:
    """Return the tree of the first element in `text`.

    :raise TagError: there is none, or an element has no end.
    """
    top = Element("", 1)
    open_elements = [top]
    position, line = 0, 1
    for markup in _MARKUP.finditer(text):
        before = text[position : markup.start()]
        open_elements[-1].pieces.append(before)
        line += before.count("\n")
        if markup[1] and (tag := _TAG.fullmatch(markup[1].removesuffix("/"))):
            _take(tag[1] == "/", tag[2], markup[1].endswith("/"), line, open_elements)
        line += markup[0].count("\n")
        position = markup.end()
    if len(open_elements) > 1:
        unclosed = open_elements[-1]
        raise TagError(unclosed.line, unclosed.name, f"has no </{unclosed.name}>")
    if not top.children:
        raise TagError(1, "", "there is no element in it")
    return top.children[0]


def _take(closing: bool, name: str, empty: bool, line: int, open_elements: list[Element]) -> None:
    if closing:
        if open_elements[-1].name != name:
            inside = open_elements[-1].name
            problem = (
                f"ends here, but <{inside}> from line {open_elements[-1].line} is still open"
                if inside
                else "ends here, but never began"
            )
            raise TagError(line, name, problem)
        open_elements.pop()
        return
    if len(open_elements) > MAX_DEPTH:
        raise TagError(line, name, f"lies more than {MAX_DEPTH} elements deep")
    element = Element(name, line)
    open_elements[-1].children.append(element)
    if not empty:
        open_elements.append(element)
