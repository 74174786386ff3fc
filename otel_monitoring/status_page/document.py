"""`page`: the status page as one HTML document, with everything it needs inside, and the headers that confine it.

The page's modules import one another by `import { name } from "./module.js";`. A document that is complete in itself
has no second file to import, so here each module becomes a function, in the order of the imports, in one script.
"""

import re
import secrets
from functools import cache
from graphlib import TopologicalSorter
from importlib.resources import files
from typing import Final, NamedTuple

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)
_MAIN: Final = "main"
_NONCE: Final = "{{nonce}}"
_DOOR: Final = "{{door}}"
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'nonce-{nonce}'",
        "style-src 'nonce-{nonce}'",
        "img-src data:",  # the icon, which shows the state
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


class Page(NamedTuple):
    """The document and the headers to send with it."""

    content: str
    headers: dict[str, str]


def page(*, ask_for_token: bool = False) -> Page:
    """The page with a nonce of its own; with `ask_for_token` it asks for the token before it asks for anything else."""
    nonce = secrets.token_urlsafe(16)
    headers = {
        "Content-Security-Policy": _POLICY.format(nonce=nonce),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    return Page(_document().replace(_NONCE, nonce).replace(_DOOR, "token" if ask_for_token else ""), headers)


@cache
def _document() -> str:
    """The document with placeholders for the nonce and the door."""
    parts = {
        "uplot.css": _asset("vendor/uPlot.min.css"),
        "page.css": _asset("page.css"),
        "uplot.js": _asset("vendor/uPlot.iife.min.js"),
        "page.js": _script(),
    }
    document = _asset("page.html")
    for name, text in parts.items():
        document = document.replace(f"{{{{{name}}}}}", text)
    return document


def _script() -> str:
    """All modules as one script."""
    sources: dict[str, str] = {}
    imports: dict[str, list[str]] = {}
    waiting = [_MAIN]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = _asset(f"{name}.js")
            imports[name] = [found[2] for found in _IMPORT.finditer(sources[name])]
            waiting += imports[name]
    return "\n".join(_as_function(name, sources[name]) for name in TopologicalSorter(imports).static_order())


def _as_function(name: str, source: str) -> str:
    """A module as a function that returns what it exports."""
    exported = ", ".join(found[2] for found in _EXPORT.finditer(source))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = $\2;", source))
    return f"const ${name} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text("utf-8")
