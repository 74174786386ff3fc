"""A service in a process where libraries have renamed private names: `python -m tests.renamed HOW NAME[,NAME ...]`.

The name is another one in the source of the libraries, wherever they use it themselves: they go on working, and only
who leans on the old name from outside does not find it. With `raises` there is something of the old name again, which
raises when it is called, as what has another signature does. With `gone` the module NAME is not there for anybody.
"""

import importlib.machinery
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

LIBRARIES = ("opentelemetry", "fastapi", "starlette", "pymongo")
SUFFIX = "_renamed"


class Renaming(MetaPathFinder):
    """Finds the libraries' modules with `names` changed in their source."""

    def __init__(self, names: Sequence[str], raises: bool) -> None:
        self.names = names
        self.raises = raises
        self.pattern = re.compile(rf"(?<![A-Za-z0-9_])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9_])")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in LIBRARIES:
            return None
        parts = fullname.split(".")
        if not {parts[-1], fullname}.isdisjoint(self.names):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        was = ".".join([*parts[:-1], parts[-1].removesuffix(SUFFIX)])
        spec = PathFinder.find_spec(was, path)
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            spec.origin,
            loader=Renamed(fullname, spec.origin, self),
            submodule_search_locations=spec.submodule_search_locations,
        )


class Renamed(SourceFileLoader):
    """Loads such a module."""

    def __init__(self, fullname: str, path: str, renaming: Renaming) -> None:
        super().__init__(fullname, path)
        self._renaming = renaming

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_source(fullname) or ""
        changed = self._renaming.pattern.sub(rf"\1{SUFFIX}", source)
        if changed == source:
            return super().get_code(fullname)
        return compile(changed, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if self._renaming.raises:
            for owner in (module, *[value for value in vars(module).values() if isinstance(value, type)]):
                for name in self._renaming.names:
                    if name + SUFFIX in vars(owner):
                        setattr(owner, name, _raise)


def _raise(*_: object, **__: object) -> object:
    raise TypeError("this takes other arguments now")


class Lines(logging.Handler):
    """What the package warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Alerts have a logger of their own: there is no database here. A busy machine may block the loop.
        if record.name == "otel_monitoring" and "event loop has been blocked" not in str(record.msg):
            self.lines.append(self.format(record))


def serve() -> dict[str, Any]:
    """Start an application with everything that this package does for one, and use it."""
    lines = Lines()
    logging.getLogger("otel_monitoring").addHandler(lines)

    import pymongo
    from fastapi import APIRouter, FastAPI
    from starlette.testclient import TestClient

    from otel_monitoring import MonitoringService, seams

    client: pymongo.MongoClient[Any] = pymongo.MongoClient("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=50)
    app, router = FastAPI(root_path="/outer"), APIRouter(prefix="/shop")
    monitoring = MonitoringService(client.shop, access="open").instrument(app)
    sizes = monitoring.meter.create_histogram("shop.sizes")

    @router.get("/orders/{number}")
    def order(number: int) -> int:
        sizes.record(number)
        logging.getLogger("shop").error("order %s", number)
        return 1 // number

    app.include_router(router)
    with TestClient(app, raise_server_exceptions=False) as http:
        paths = ("/outer/shop/orders/1", "/outer/shop/orders/1", "/shop/orders/0", "/nothing")
        answers = [http.get(path).status_code for path in paths]
        health = http.get("/api/health").json()
        diagnostics = http.get("/api/health/diagnostics").json()
    client.close()
    return {
        "answers": answers,
        "health": sorted(health),
        "seams": diagnostics["seams"],
        "lost": [seam.names[0] for seam in seams.all_seams() if not seam.holds],
        "lines": lines.lines,
    }


if __name__ == "__main__":
    _, how, names = sys.argv
    sys.meta_path.insert(0, Renaming(names.split(","), how == "raises"))
    sys.stdout.write(json.dumps(serve()))
