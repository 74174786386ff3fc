"""The README is the front door: short, complete, and everything else one click away."""

from tests.pages import PAGES, ROOT, name_of, page


def test_it_is_read_in_one_go() -> None:
    assert len(page("README.md").splitlines()) <= 150, "what does not fit belongs on a page of docs/"


def test_it_leads_to_every_page() -> None:
    linked = page("README.md")
    missing = [name for path in PAGES if (name := name_of(path)) != "README.md" and f"]({name})" not in linked]
    assert missing == []
    assert f"]({name_of(ROOT / 'CHANGELOG.md')})" in linked
