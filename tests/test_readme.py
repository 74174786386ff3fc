"""The README's Python examples run as they stand, and its tables name settings that exist."""

import re
from pathlib import Path

import pytest

from otel_monitoring.config import PREFIX, Settings, known_variables
from otel_monitoring.monitoring import set_monitoring

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.usefixtures("global_listeners")
@pytest.mark.parametrize("example", EXAMPLES, ids=[f"example {i}" for i in range(1, len(EXAMPLES) + 1)])
def test_examples_run(example: str) -> None:
    namespace: dict[str, object] = {"__name__": "readme"}
    try:
        exec(compile(example, "README.md", "exec"), namespace)  # noqa: S102 - our own text
    finally:
        set_monitoring(None)
    assert "monitoring" in namespace


def test_documented_settings_exist_and_ours_are_documented() -> None:
    table = README[README.index("## Configuration") :]
    names = {name.lower() for name in re.findall(rf"`{PREFIX}([A-Z_]+)`", table)}
    shortened = {name.lower() for name in re.findall(r"· `_([A-Z_]+)`", table)}
    assert names | shortened <= Settings.model_fields.keys()
    ours = {name.removeprefix(PREFIX).lower() for name in known_variables()}
    assert {name for name in ours if not name.startswith("threshold")} <= names | shortened
