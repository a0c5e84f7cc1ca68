"""Imports of the benchmark scripts."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


class Opener(Protocol):
    """Imports a script by its name."""

    def __call__(self, name: str) -> ModuleType: ...


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Import a script as it sees itself when it is run: its own folder comes first."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module
