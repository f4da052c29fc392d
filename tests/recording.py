"""``pytest --record FILE``: the numbers that tests measured, by name, for people and scripts.

A test calls pytest's own ``record_property(name, value)``; what passed stands in ``FILE`` (JSON),
beside what earlier runs recorded there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


class Recorder:
    """Collect what passing tests recorded; write it when the session ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.found |= dict(report.user_properties)

    def pytest_sessionfinish(self) -> None:
        if not self.found:
            return
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(
            json.dumps(dict(sorted((before | self.found).items())), indent=1) + "\n"
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, metavar="FILE", help="write what tests measured here")
    parser.addoption(
        "--whole", action="store_true", help="no training is cut short to keep the tests quick"
    )


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--record"):
        config.pluginmanager.register(Recorder(path), "tessera-recorder")
