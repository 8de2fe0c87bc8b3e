"""The fuzz target itself (`make fuzz` runs it under atheris): its seeds hold, and it notices broken promises."""

from __future__ import annotations

import random
from typing import Any

import pytest

import probes
from tests.probes.fuzz import check, look, seeds

SEEDS = dict(seeds())


@pytest.mark.parametrize("name", SEEDS)
def test_every_seed_and_forty_changes_of_it_keep_all_promises(name: str) -> None:
    chance = random.Random(name)
    for _ in range(40):
        data = bytearray(SEEDS[name])
        for _ in range(chance.randint(0, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        look(bytes(data[: chance.choice((len(data), chance.randrange(len(data) + 1)))]))


def test_an_exception_of_another_kind_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("dtype")

    monkeypatch.setattr(probes, "parse_header", broken)
    with pytest.raises(KeyError):
        check(SEEDS["vae-ldm.safetensors"])


def test_a_header_that_is_believed_at_any_size_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = probes.parse_header
    monkeypatch.setattr(probes, "parse_header", lambda data, size: parse(data, None))
    with pytest.raises(AssertionError, match="was believed"):
        check(SEEDS["vae-ldm.safetensors"])
