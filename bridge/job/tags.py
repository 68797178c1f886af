"""Read a job file as BOINC's programs do: tag by tag, loosely, but knowing the line of each.

Job files in the field are often not XML: there is no declaration, `&` stands for itself, attributes and comments come
and go. So this is no XML parser. It knows tags, text between them and comments; whatever has a matching end is a tree.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TAG = re.compile(r"<!--.*?(?:-->|\Z)|<[?!][^<>]*>|<(/?)([A-Za-z_][\w.-]*)([^<>]*?)(/?)>", re.DOTALL)
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
    """One element: its name, the line of its tag (from 1), the text directly in it, and its children."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)


def parse(text: str) -> Element:
    """Return the tree of the first element in `text`.

    :raise TagError: there is none, or an element has no end.
    """
    top = Element("", 1)
    open_elements = [top]
    position = 0
    for tag in _TAG.finditer(text):
        open_elements[-1].text += text[position : tag.start()]
        position = tag.end()
        if tag[2]:
            _take(tag, 1 + text.count("\n", 0, tag.start()), open_elements)
    if len(open_elements) > 1:
        unclosed = open_elements[-1]
        raise TagError(unclosed.line, unclosed.name, f"has no </{unclosed.name}>")
    if not top.children:
        raise TagError(1, "", "there is no element in it")
    for element in _walk(top):
        element.text = _ENTITY.sub(lambda found: _ENTITIES[found[1]], element.text.strip())
    return top.children[0]


def _take(tag: re.Match[str], line: int, open_elements: list[Element]) -> None:
    closing, name, empty = tag[1], tag[2], tag[4]
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


def _walk(element: Element) -> Iterator[Element]:
    yield element
    for child in element.children:
        yield from _walk(child)
