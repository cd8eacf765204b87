from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["tape.md", "run.md", "commands.md"])
def test_reference_pages_are_what_the_code_says(name: str) -> None:
    expected = generator().PAGES[name]().rstrip() + "\n"
    assert (DOCS / "reference" / name).read_text() == expected, "run `make docs`"
