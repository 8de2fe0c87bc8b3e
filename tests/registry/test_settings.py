"""What is set in the environment, and what is told of it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from registry.settings import Settings

TOKENS = {"hub_token": "HF_TOKEN", "civitai_token": "CIVITAI_API_TOKEN", "token": "MODELSHELF_TOKEN"}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_is_what_may_stand_in_a_header_and_is_told_to_nobody(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKENS[name], " hf_abc\r\n")
    settings = Settings()
    assert getattr(settings, name) == "hf_abc"
    assert {shown.name: shown.value for shown in settings.shown()}[name] == "set"
    assert "hf_abc" not in repr(settings)
    monkeypatch.setenv(TOKENS[name], "hf_abc def")
    with pytest.raises(ValidationError, match="no blanks") as caught:
        Settings()
    assert "hf_abc" not in str(caught.value)
