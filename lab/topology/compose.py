"""A YAML text made into a tree of values that know their lines.

Built from ruamel.yaml's events rather than from its round-trip objects: every
key and value keeps its line, and what a hostile or broken file could do
(endless nesting, anchors that expand to billions of values, anchors inside
themselves) is bounded while it is read.  Scalars are typed by the core schema
of YAML 1.2, so `no` and `off` are words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from lab.topology.document import Document, Node, Place, plain, problem_at, shown_place
from lab.topology.problems import Problem, TopologyError, printable, show

MAX_DEPTH = 32
MAX_VALUES = 200_000


_INT = re.compile(r"[-+]?[0-9]{1,30}", re.ASCII)
_BASED = re.compile(r"0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True}
_WORDS |= {"false": False, "False": False, "FALSE": False}
_UNTYPED = ("", None)

# What ruamel.yaml says, in plainer words, and what to do about it.
_FAULTS = (
    ("'\\t'", "a tab where none may stand", "indent with spaces"),
    (
        "mapping values are not allowed",
        "a colon where no key can be",
        "quote a value with a colon in it; check the indentation",
    ),
    ("expected ',' or ']'", "a list is not closed", "a list that begins with [ ends with ]"),
    ("expected ',' or '}'", "a mapping is not closed", "what begins with { ends with }"),
    ("unexpected end of stream", "a quotation is not closed", "close it on its line"),
    (
        "could not find expected ':'",
        "a word that is neither a key nor a value",
        "each key needs a colon and a space behind it",
    ),
    (
        "expected <block end>",
        "the indentation fits nothing above",
        "begin the keys of one mapping in one column",
    ),
)


def parse(text: str, source: str, place: Callable[[int], Place] | None = None) -> Document:
    """The one YAML document in `text`.

    `place` makes a Place of a line number, if the text is not `source` itself.
    Duplicate keys are noted in the document's problems.  Raises TopologyError
    for what is not YAML, not one document, or beyond the bounds above.
    """
    composer = _Composer(text, place or (lambda line: (source, line)))
    root = composer.document()
    return Document(source, root, composer.problems)


class _Composer:
    """Events to nodes; one use."""

    def __init__(self, text: str, place: Callable[[int], Place]) -> None:
        self._place = place
        self._anchors: dict[str, Node | None] = {}
        self._line = 1
        self._events = self._guarded(text)
        self.problems: list[Problem] = []

    def _guarded(self, text: str) -> Iterator[Any]:
        try:
            yield from YAML(typ="safe", pure=True).parse(text)
        except MarkedYAMLError as error:
            self._fail_marked(error)
        except (YAMLError, ValueError, OverflowError, LookupError, TypeError, AttributeError):
            # The scanner trips in these ways over characters, escapes and
            # directives that it doesn't foresee (`"\\U99999999"`).
            self._fail(
                "this is not YAML: a character or an escape that can't be read",
                "look for control characters, and for backslashes in quotes",
            )

    def _fail_marked(self, error: MarkedYAMLError) -> NoReturn:
        said = str(error.problem or error.context or "broken")
        fault, remedy = next(
            ((fault, remedy) for sign, fault, remedy in _FAULTS if sign in said),
            (said.replace("'\\x00'", "the end").replace("'<stream end>'", "the end"), ""),
        )
        mark, begun = error.problem_mark or error.context_mark, error.context_mark
        if mark is None:
            self._fail(f"this is not YAML: {fault}", remedy)
        if begun is not None and begun.line < mark.line and "quoted" in str(error.context):
            mark = begun  # The other end of an open quotation is the end of the file.
        elif begun is not None and begun.line < mark.line and "flow" in str(error.context):
            fault += f" (it begins in line {begun.line + 1})"
        self._fail(f"this is not YAML: {printable(fault)}", remedy, mark.line + 1)

    def _next(self) -> Any:
        event = next(self._events, None)
        if event is None:
            self._fail("this is not YAML: it ends too early")
        if event.start_mark is not None:
            self._line = event.start_mark.line + 1
        return event

    def _fail(self, message: str, remedy: str = "", line: int = 0) -> NoReturn:
        problem = problem_at(self._place(line or self._line), message, remedy)
        raise TopologyError([*self.problems, problem]) from None

    def document(self) -> Node:
        event = self._next()
        if isinstance(event, StreamStartEvent):
            event = self._next()
        if not isinstance(event, DocumentStartEvent):
            return Node(None, self._place(1))
        root = self._node(self._next(), 0)
        self._next()
        if isinstance(self._next(), DocumentStartEvent):
            self._fail("a second document begins here", "keep one topology in a file")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        line = self._line
        if isinstance(event, AliasEvent):
            return self._alias(str(event.anchor), line)
        if depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH} levels", "a topology needs five or six")
        if isinstance(event, NodeEvent) and event.anchor is not None:
            self._anchors[event.anchor] = None
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in _UNTYPED:
            word = str(tag).replace("tag:yaml.org,2002:", "!!")
            self._fail(f"the tag {show(word)} means nothing here", "leave it out")
        match event:
            case MappingStartEvent():
                node = self._mapping(line, depth)
            case SequenceStartEvent():
                node = self._sequence(line, depth)
            case ScalarEvent():
                node = self._scalar(event, line)
            case _:
                self._fail("this is not YAML: a value is missing")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, line: int) -> Node:
        if anchor not in self._anchors:
            self._fail(
                f"*{anchor} refers to no anchor", f"an anchor &{anchor} has to come before it"
            )
        node = self._anchors[anchor]
        if node is None:
            self._fail(f"*{anchor} stands inside &{anchor} itself", "write the value out")
        return Node(node.value, self._place(line), node.size, node.text)

    def _scalar(self, event: Any, line: int) -> Node:
        text = str(event.value)
        if "\0" in text or (not text.isascii() and printable(text) != text):
            self._fail("a value holds a character that is none", "take the escape out")
        # implicit[0] is whether a plain scalar may be typed by what it looks like.
        value = _typed(text) if event.implicit[0] else text
        return Node(value, self._place(line), 1, text)

    def _sequence(self, line: int, depth: int) -> Node:
        items: list[Node] = []
        size = 1
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._node(event, depth + 1))
            size = self._grown(size, items[-1])
        return Node(items, self._place(line), size)

    def _mapping(self, line: int, depth: int) -> Node:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        size = 1
        while not isinstance(event := self._next(), MappingEndEvent):
            at = self._line
            key = self._node(event, depth + 1)
            if isinstance(key.value, dict | list):
                self._fail(f"{show(plain(key))} can't be a key", "keys are single words", at)
            child = self._node(self._next(), depth + 1)
            size = self._grown(size, child)
            if key.text == "<<" and key.value == "<<":
                self._merge(merged, child, at)
            elif key.text in own:
                first = shown_place(own[key.text].place)
                self.problems.append(
                    problem_at(
                        self._place(at),
                        f"the key {show(key.text)} is given twice",
                        f"it stands at {first} already: keep one",
                    )
                )
            else:
                # The key's line, not the value's: that is where a person looks.
                own[key.text] = Node(child.value, self._place(at), child.size, child.text)
        for name, child in merged.items():
            if name not in own:
                own[name] = child
        return Node(own, self._place(line), size)

    def _merge(self, into: dict[str, Node], child: Node, line: int) -> None:
        """Take in the entries of `<<: *anchor` or `<<: [*first, *second]`; earlier ones win."""
        for source in child.value if isinstance(child.value, list) else [child]:
            if not isinstance(source.value, dict):
                self._fail("<< takes in a mapping, and this is none", "write <<: *anchor", line)
            for name, entry in source.value.items():
                into.setdefault(name, entry)

    def _grown(self, size: int, child: Node) -> int:
        size += child.size
        if size > MAX_VALUES:
            self._fail(f"more than {MAX_VALUES} values", "use count: for many alike")
        return size


def _typed(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2 (section 10.3.2)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return text if number in (float("inf"), float("-inf")) else number
    return text
