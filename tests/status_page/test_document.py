"""The document: complete in itself, small, and confined by its policy."""

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path

from otel_monitoring import status_page
from otel_monitoring.status_page.document import page

ASSETS = Path(status_page.__file__).parent / "assets"
MODULES = sorted(ASSETS.glob("*.js"))


class Found(HTMLParser):
    """Scripts, styles, and everything that would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.nonces: list[str | None] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"script", "style"}:
            self.nonces.append(given.get("nonce"))
        loads = given.get("src") or (given.get("href") if tag == "link" else None)
        if loads is not None:
            self.loaded.append(loads)
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]


def test_it_is_complete_in_itself() -> None:
    found = Found()
    found.feed(page().content)
    assert found.loaded == ["data:,"]  # the icon, which a script sets
    assert found.handlers == []
    assert not re.search(r"\{\{[\w.]+\}\}", page().content)


def test_each_has_a_nonce_of_its_own_and_no_script_is_without() -> None:
    one, other = page(), page()
    policy = one.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
    found = Found()
    found.feed(one.content)
    assert found.nonces == [nonce] * 3
    assert nonce not in other.content
    assert len(nonce) >= 20


def test_the_policy_allows_nothing_else() -> None:
    policy = page().headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert rules["trusted-types"] == "'none'"
    assert not re.search(r"unsafe|https?:|\*", policy)


def test_it_is_small() -> None:
    assert len(gzip.compress(page().content.encode(), 6)) <= 60_000


def test_every_module_is_in_it_once() -> None:
    content = page().content
    assert {path.stem for path in MODULES} - {"types"} == set(re.findall(r"^const \$(\w+) = ", content, re.MULTILINE))
    assert not re.search(r"^(import|export) ", content, re.MULTILINE)
    assert content.count("</script") == 2


def test_nothing_parses_or_runs_a_text() -> None:
    """Hostile texts are set as text; Trusted Types would stop the rest."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setHTML|srcdoc"
    for path in [*MODULES, ASSETS / "vendor" / "uPlot.iife.min.js"]:
        assert not re.search(forbidden, path.read_text()), path.name


def test_one_module_talks_http() -> None:
    talking = {path.name for path in MODULES if re.search(r"\bfetch\(|XMLHttpRequest|EventSource", path.read_text())}
    assert talking == {"http.js"}


def test_the_token_is_in_memory_only() -> None:
    for path in MODULES:
        assert not re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", path.read_text()), path.name


def test_the_vendored_library_has_its_licence() -> None:
    assert "Leon Sorokin" in (ASSETS / "vendor" / "uPlot.LICENSE").read_text()
    assert "MIT" in (ASSETS / "vendor" / "uPlot.LICENSE").read_text()
