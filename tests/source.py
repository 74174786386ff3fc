"""The package's source as tests read it: one syntax tree for each module, and the nodes of a kind in it."""

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import otel_monitoring

ROOT = Path(otel_monitoring.__file__).parent
Node = TypeVar("Node", bound=ast.AST)


def name_of(path: Path) -> str:
    """The full name of a module."""
    parts = ("otel_monitoring", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
"""The file of each module, by its full name."""


# Each worker of xdist imports this module: the package is read by those that run such tests.
@cache
def trees() -> Mapping[str, ast.Module]:
    """The source of each module, by its full name."""
    found = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}
    for tree in found.values():
        _by_kind(tree)
    return found


def nodes(tree: ast.Module, *kinds: type[Node]) -> list[Node]:
    """The nodes of these kinds, anywhere in a tree of `trees`."""
    found = _by_kind(tree)
    return [node for kind in kinds for node in found.get(kind, ())]  # type: ignore[misc]


@cache
def _by_kind(tree: ast.Module) -> Mapping[type[ast.AST], Sequence[ast.AST]]:
    found: defaultdict[type[ast.AST], list[ast.AST]] = defaultdict(list)
    for node in ast.walk(tree):
        found[type(node)].append(node)
    return found
