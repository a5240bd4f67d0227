"""Read YAML into plain data that remembers the line and column of every value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from lsd.pipeline.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]

# A pipeline is a page of text. The limits keep a video that was given as the
# config, and a few lines of nested aliases, from filling the memory.
MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 40


class Where(NamedTuple):
    """A place in a file, or a flag of the command line (line 0)."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


class Problem(NamedTuple):
    """One thing that is wrong, and where."""

    where: Where
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(slots=True)
class Document:
    """YAML as plain data (dict, list, str, int, float, bool, None) with places.

    Attributes:
        name: the file, as the user named it.
        data: the content.
        keys: path -> where its key stands.
        values: path -> where its value begins.
        problems: what is wrong although the file can be read (keys given twice).
    """

    name: str
    data: Any = None
    keys: dict[KeyPath, Where] = field(default_factory=dict)
    values: dict[KeyPath, Where] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, path: KeyPath, *, key: bool = False) -> Where:
        """Return where `path` stands, or its nearest parent that stands somewhere."""
        for end in range(len(path), -1, -1):
            # A missing child is reported at its parent's key, not at whatever
            # happens to be the first thing inside the parent.
            table = self.keys if key or end < len(path) else self.values
            found = table.get(path[:end]) or self.values.get(path[:end])
            if found is not None:
                return found
        return Where(self.name, 1, 1)

    def put(self, path: KeyPath, value: Any, where: Where) -> None:
        """Replace what is at `path` (its parent must be a dict), told by `where`."""
        parent = self.data
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = value
        for table in (self.keys, self.values):
            for old in [old for old in table if old[: len(path)] == path]:
                del table[old]
            table[path] = where


def read_yaml(path: Path, name: str) -> Document:
    """Read the file at `path`, called `name` in messages.

    Raises:
        ConfigError: it is missing, unreadable, too big, not UTF-8 or not YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: this is a folder, expected a YAML file") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{name}: larger than {MAX_BYTES // 1024} KiB, expected a YAML pipeline; "
            "a video is given by --input"
        )
    return parse_yaml(_decode(content, name), name)


def parse_yaml(text: str, name: str) -> Document:
    """Parse one YAML document.

    Raises:
        ConfigError: the syntax is broken; one line with file:line:column.
    """
    document = Document(name)
    loader = YAML(typ="safe", pure=True)
    try:
        root = loader.compose(text)
        if root is not None:
            document.data = _Walker(loader.constructor, document).value(root, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(name, mark.line + 1, mark.column + 1) if mark else Where(name)
        raise ConfigError(f"{where}: {_explain(error)}") from error
    except ReaderError as error:
        where = _at(text, error.position, name)
        raise ConfigError(f"{where}: character {error.character!r} is not allowed") from error
    except YAMLError as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply to be a pipeline") from error
    return document


class _Walker:
    """Turns nodes into data and writes down where they stand."""

    def __init__(self, constructor: Any, document: Document) -> None:
        self._constructor = constructor
        self._document = document
        self._open: list[Node] = []  # the nodes that we are inside of
        self._count = 0

    def value(self, node: Node, path: KeyPath) -> Any:
        where = self._mark(node)
        if isinstance(node, ScalarNode) and not node.value and not node.style and path:
            # 'steps:' with nothing behind it: its mark is the next line's first word.
            where = self._document.keys.get(path, where)
        self._document.values.setdefault(path, where)
        self._count += 1
        if any(node is parent for parent in self._open):
            raise ConfigError(f"{where}: this alias contains itself")
        if self._count > MAX_VALUES or len(self._open) > MAX_DEPTH:
            raise ConfigError(f"{where}: too much in here to be a pipeline")
        if isinstance(node, ScalarNode):
            return self._scalar(node, where)
        self._open.append(node)
        result = self._collection(node, path, where)
        self._open.pop()
        return result

    def _collection(self, node: Node, path: KeyPath, where: Where) -> Any:
        if isinstance(node, SequenceNode) and _tag(node) == "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and _tag(node) == "map":
            return {name: self.value(item, (*path, name)) for name, item in self._items(node, path)}
        raise ConfigError(f"{where}: the tag {_short_tag(node)} is not supported; remove it")

    def _items(self, node: MappingNode, path: KeyPath) -> Iterator[tuple[str, Node]]:
        seen: dict[str, Where] = {}
        for key, item in node.value:
            where = self._mark(key)
            if not isinstance(key, ScalarNode):
                raise ConfigError(f"{where}: expected a name before ':', got a {key.id}")
            name = str(key.value)
            if name == "<<":
                raise ConfigError(f"{where}: merge keys ('<<') are not supported; write it out")
            if name in seen:
                text = f"{name!r} is given twice, first in line {seen[name].line}; remove one"
                self._document.problems.append(Problem(where, text))
                continue
            seen[name] = where
            self._document.keys[(*path, name)] = where
            yield name, item

    def _scalar(self, node: ScalarNode, where: Where) -> Any:
        if _tag(node) == "timestamp":
            return str(node.value)  # JSON has no dates, and no option is one
        try:
            value = self._constructor.construct_object(node)
        except MarkedYAMLError as error:
            raise ConfigError(
                f"{where}: the tag {_short_tag(node)} is not supported; remove it"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{where}: expected {_tag(node)}, got {node.value[:40]!r}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: expected a finite number, got {node.value}")
        if value is None or isinstance(value, (str, int, float)):
            return value
        raise ConfigError(f"{where}: the tag {_short_tag(node)} is not supported; remove it")

    def _mark(self, node: Node) -> Where:
        mark = node.start_mark
        return Where(self._document.name, mark.line + 1, mark.column + 1)


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _short_tag(node: Node) -> str:
    return repr(str(node.tag).replace("tag:yaml.org,2002:", "!!"))


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise ConfigError(
            f"{name}:{line}:{column}: expected UTF-8 text, got byte 0x{content[error.start]:02x}; "
            "save the file as UTF-8"
        ) from error


def _at(text: str, position: int, name: str) -> Where:
    before = text[:position]
    return Where(name, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _explain(error: MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "a tab is used for indentation; YAML wants spaces"
    if "found another document" in problem:
        return "a second document begins here ('---'); expected one pipeline in a file"
    if "mapping values are not allowed" in problem:
        return "unexpected ':' (is the indentation right? a text with ': ' in it needs quotes)"
    context = f" ({error.context})" if error.context else ""
    return f"broken YAML: {problem}{context}"
