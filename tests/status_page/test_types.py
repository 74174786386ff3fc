"""The modules of the page hold what their types promise: `tsc --checkJs`."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.status_page.node import node_modules
from tests.status_page.test_document import ASSETS

pytestmark = pytest.mark.slow
STRICT = ("strict", "noUncheckedIndexedAccess", "noImplicitReturns", "noUnusedLocals", "noUnusedParameters")


def checked(folder: Path, *modules: str) -> subprocess.CompletedProcess[str]:
    packages = node_modules()
    options = {
        **dict.fromkeys(STRICT, True),
        "allowJs": True,
        "checkJs": True,
        "noEmit": True,
        "exactOptionalPropertyTypes": True,
        "skipLibCheck": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
        "lib": ["es2023", "dom", "dom.iterable"],
        "allowUmdGlobalAccess": True,  # uPlot is a script of its own
    }
    include = [*modules, str(packages / "uplot" / "dist" / "uPlot.d.ts")]
    config = folder / "tsconfig.json"
    config.write_text(json.dumps({"compilerOptions": options, "include": include}))
    command = [str(packages / ".bin" / "tsc"), "--pretty", "false", "-p", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_modules_hold_their_types(tmp_path: Path) -> None:
    result = checked(tmp_path, str(ASSETS / "*.js"))
    assert result.returncode == 0, result.stdout


def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.js").write_text("/** @param {number} value */\nexport const text = (value) => value.trim();\n")
    assert "does not exist on type 'number'" in checked(tmp_path, str(tmp_path / "wrong.js")).stdout
