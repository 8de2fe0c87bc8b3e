"""`modelshelf token`: made with scopes, listed, revoked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.tokens import app


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("MODELSHELF_ROOT", str(tmp_path))
    return CliRunner()


def test_a_token_s_life(token: CliRunner) -> None:
    made = token.invoke(app, ["token", "create", "prometheus", "--scope", "read"])
    assert made.exit_code == 0
    assert made.output.startswith("msh_")
    assert token.invoke(app, ["token", "create", "friend"]).exit_code == 0
    listed = token.invoke(app, ["token", "list"]).output.splitlines()
    [reader] = [line.split() for line in listed if "prometheus" in line]
    assert reader[2] == "read"
    assert any("generate, manage, read" in line for line in listed)
    assert made.output.strip() not in "".join(listed)
    assert token.invoke(app, ["token", "revoke", reader[0]]).exit_code == 0
    assert token.invoke(app, ["token", "revoke", "friend"]).exit_code == 0
    left = token.invoke(app, ["token", "list"]).output
    assert "prometheus" not in left
    assert "friend" not in left


def test_a_name_that_several_have_revokes_none(token: CliRunner) -> None:
    for _ in range(2):
        token.invoke(app, ["token", "create", "twin"])
    assert token.invoke(app, ["token", "revoke", "twin"]).exit_code != 0
    assert token.invoke(app, ["token", "list"]).output.count("twin") == 2


def test_an_id_goes_before_a_name(token: CliRunner) -> None:
    token.invoke(app, ["token", "create", "leaked"])
    [first] = [line.split()[0] for line in token.invoke(app, ["token", "list"]).output.splitlines() if "leaked" in line]
    token.invoke(app, ["token", "create", first])
    assert token.invoke(app, ["token", "revoke", first]).exit_code == 0
    assert "leaked" not in token.invoke(app, ["token", "list"]).output


def test_a_scope_that_there_is_not(token: CliRunner) -> None:
    refused = token.invoke(app, ["token", "create", "--scope", "everything"])
    assert refused.exit_code == 2
    assert "generate" in refused.output
