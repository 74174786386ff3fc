"""The documentation as tests read it: pages, their headings, links, tables and code blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_SINGLE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "collector-config/README.md")
PAGES = (*(ROOT / name for name in _SINGLE), *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: where it stands, its language, what the fence says besides, and its text."""

    page: str
    line: int
    language: str
    about: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def page(name: str) -> str:
    """The text of a page, by its path in the repository."""
    return (ROOT / name).read_text()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(name: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page(name)
    for found in _BLOCK.finditer(text):
        language, _, about = found[2].strip().partition(" ")
        lines = [line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True)]
        yield Block(name, text.count("\n", 0, found.start()) + 1, language, about, "".join(lines))


def all_blocks(language: str) -> list[Block]:
    return [block for path in PAGES for block in blocks(name_of(path)) if block.language == language]


def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page(name))


def code(name: str) -> list[str]:
    """What stands between backticks in the running text and the tables of a page."""
    return re.findall(r"`([^`\n]+)`", prose(name))


def slug(heading: str) -> str:
    """The anchor GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def headings(name: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)


def section(name: str, heading: str) -> str:
    """What stands below the heading with the anchor `heading`, up to the next heading of any level."""
    parts = re.split(r"^#+ (.+)$", page(name), flags=re.MULTILINE)
    return next(text for title, text in zip(parts[1::2], parts[2::2], strict=True) if slug(title) == heading)


def rows(text: str) -> list[list[str]]:
    """The cells of every table row in `text`, without the heads."""
    lines = text.splitlines()
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for number, line in enumerate(lines)
        if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line) and not _is_head(lines, number)
    ]


def _is_head(lines: list[str], number: int) -> bool:
    return number + 1 < len(lines) and re.fullmatch(r"[|:\- ]+", lines[number + 1]) is not None


def names(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


Tree = dict[str, Any]
"""Documented keys: an object of these, or at a leaf the text of its column `unit`."""


def keys(name: str, heading: str) -> Tree:
    """The keys that the table below a heading documents, with what its cells link to filled in.

    `<route>` stands for every key of an object, `[]` for every item of a list.
    """
    tree: Tree = {}
    for key, unit, *_ in rows(section(name, heading)):
        node = tree
        *above, last = names(key)[0].replace("[]", ".[]").lstrip(".").split(".")
        for part in above:
            node = node.setdefault(part, {})
        link = re.search(r"\]\(#([\w-]+)\)", unit)
        node[last] = keys(name, link[1]) if link else unit
    return tree
