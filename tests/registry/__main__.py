"""Writes the tables of docs/metrics.md."""

from tests.registry import PAGE, page

PAGE.write_text(page())
print(PAGE)  # noqa: T201 - a command's answer
