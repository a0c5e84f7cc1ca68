"""Imports by a string, which the check of the floors cannot see; every part is in the architecture."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path

import pytest

import sj_lowlat

PACKAGE = Path(sj_lowlat.__file__).parent
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.rst"
# these hold a table of lazy names at the top of their package
LAZY = {PACKAGE / "__init__.py", PACKAGE / "spike_camera" / "__init__.py"}
FILES = sorted(set(PACKAGE.rglob("*.py")) - LAZY)
IMPORTERS = {"import_module", "__import__", "resolve_name"}


def own_imports(code: str) -> list[int]:
    """Lines that import a module of the package by a string."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _name(call.func) in IMPORTERS and _own(call)]


def _name(function: ast.expr) -> str:
    return getattr(function, "id", getattr(function, "attr", ""))


def _own(call: ast.Call) -> bool:
    """Whether an argument begins with the package's name or with a dot, or reads ``__name__``."""
    parts = [node for value in [*call.args, *call.keywords] for node in ast.walk(value)]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return bool(names & {"__name__", "__package__"}) or any(
        text.startswith(".") or re.match(r"sj_lowlat\b", text) for text in texts
    )


@pytest.mark.parametrize(
    "code",
    [
        "import_module('sj_lowlat.zoo')",
        "importlib.import_module(name='sj_lowlat')",
        "import_module('.zoo', package)",
        "import_module(f'sj_lowlat.{name}')",
        "import_module(f'{__name__}.{name}')",
        "import_module(__name__ + name)",
        "__import__('sj_lowlat.zoo')",
        "pkgutil.resolve_name('sj_lowlat.zoo:load')",
    ],
)
def test_finds_imports_by_a_string(code: str) -> None:
    assert own_imports(code) == [1]


@pytest.mark.parametrize("code", ["import_module('torch.utils')", "import sj_lowlat", "print('sj_lowlat')"])
def test_leaves_others_alone(code: str) -> None:
    assert own_imports(code) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_own_module_is_imported_by_a_string(file: Path) -> None:
    assert own_imports(file.read_text(encoding="utf-8")) == []


def test_architecture_names_every_part() -> None:
    parts = {
        module.name for module in pkgutil.iter_modules([str(PACKAGE)]) if not module.name.startswith("_")
    }
    named = set(re.findall(r"``(\w+)``", ARCHITECTURE.read_text(encoding="utf-8")))
    assert sorted(parts - named) == []
