"""The structure that DESIGN asks for, held against the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("probes", "registry", "api")
# torch costs seconds and hundreds of MB; these two take as long again.
HEAVY = ("torch", "diffusers", "transformers")
MAY_IMPORT_HEAVY = (ROOT / "registry/weights", ROOT / "registry/backends")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, at any depth of nesting."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_data_flows_one_way(package: str) -> None:
    """api -> registry -> probes: no package imports one that stands before it (import-linter checks the indirect ways)."""
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = {str(p.relative_to(ROOT)): imported(p) & above for p in modules(package) if imported(p) & above}
    assert modules(package)
    assert wrong == {}


def test_torch_is_imported_only_by_weights_and_backends() -> None:
    elsewhere = [
        p for package in PACKAGES for p in modules(package) if not any(p.is_relative_to(d) for d in MAY_IMPORT_HEAVY)
    ]
    assert [str(p.relative_to(ROOT)) for p in elsewhere if imported(p) & set(HEAVY)] == []


def test_only_the_settings_read_the_environment() -> None:
    for path in (p for package in PACKAGES for p in modules(package)):
        attributes = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        assert attributes.isdisjoint({"environ", "getenv"}), path
        assert "pydantic_settings" not in imported(path) or path.name == "settings.py"


def test_alembic_folder_does_not_shadow_the_library() -> None:
    assert not (ROOT / "alembic/__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-c", "import alembic.command"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def loaded_after(code: str, tmp_path: Path) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"],
        cwd=ROOT,
        env={"MODELSHELF_ROOT": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_command_line_does_not_import_torch(tmp_path: Path) -> None:
    loaded = loaded_after("import api.cli", tmp_path)
    assert "typer" in loaded
    assert loaded.isdisjoint({*HEAVY, "sqlalchemy", "huggingface_hub", "fastapi"})


def test_listing_models_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "from registry.manager import build_manager; from registry.queries import Query; m = build_manager();"
        "m.catalog.page(Query(text='a')); m.close()"
    )
    loaded = loaded_after(code, tmp_path)
    assert "sqlmodel" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_probing_imports_neither_torch_nor_a_database(tmp_path: Path) -> None:
    loaded = loaded_after("import probes", tmp_path)
    assert "msgspec" in loaded
    assert loaded.isdisjoint({*HEAVY, "sqlmodel", "sqlalchemy", "httpx", "huggingface_hub", "safetensors", "numpy"})


def test_probing_what_is_on_disk_waits_for_no_network_library(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"tensors": {"a": ["F16", [1]]}}')
    code = (
        "from registry.probing import inputs; from registry.settings import Settings; "
        f"[each.load() for each in inputs({str(tmp_path / 'x')!r}, Settings())]"
    )
    loaded = loaded_after(code, tmp_path)
    assert "pydantic_settings" in loaded
    assert loaded.isdisjoint({*HEAVY, "sqlmodel", "sqlalchemy", "httpx", "huggingface_hub", "fastapi"})


def test_the_python_client_imports_neither_a_database_nor_a_web_framework(tmp_path: Path) -> None:
    loaded = loaded_after("import api.client", tmp_path)
    assert "httpx" in loaded
    assert loaded.isdisjoint({*HEAVY, "pydantic", "sqlalchemy", "huggingface_hub", "fastapi", "numpy", "typer"})


def test_the_command_that_lists_loads_no_more_than_the_catalogue(tmp_path: Path) -> None:
    code = (
        "import sys; from api.cli import main; sys.argv = ['modelshelf', 'list']\ntry: main()\nexcept SystemExit: pass"
    )
    loaded = loaded_after(code, tmp_path)
    assert "sqlmodel" in loaded
    assert loaded.isdisjoint({*HEAVY, "huggingface_hub", "fastapi", "httpx", "numpy"})
