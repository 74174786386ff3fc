"""Writes the files."""

from otel_monitoring.export import write
from tests.dashboards import FOLDER, built

for path in write(built(), FOLDER):
    print(path)  # noqa: T201 - a command's answer
