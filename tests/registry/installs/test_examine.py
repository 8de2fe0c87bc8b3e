"""A remote model is probed from its first bytes: in one request, and with the answer that the whole file would give."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes import REMOTE_PREFIX, UnreadableModel, probe
from probes.containers.safetensors import BITS
from registry.errors import NoWeights
from registry.installs.examine import examine, hints_for, read_json
from registry.installs.origins import Origin, RemoteFile, open_origin
from registry.sources import HubSource, PathSource, UrlSource
from tests.hub import LoopbackHub
from tests.hub.server import Seen
from tests.loopback import LOOPBACK
from tests.probes import headers

FILE = "weights.safetensors"


def one_of_each() -> dict[str, headers.Fixture]:
    """A fixture for each kind and layout: what is asked here is the way of the bytes, and not which family they are."""
    found: dict[tuple[object, object], str] = {}
    fixtures = {name: headers.load(name) for name in headers.names()}
    for name, fixture in fixtures.items():
        if {dtype for dtype, _ in fixture.tensors.values()} <= set(BITS):
            found.setdefault((fixture.expect.get("kind"), fixture.expect.get("layout")), name)
    return {name: fixtures[name] for name in found.values()}


FIXTURES = one_of_each()


@contextmanager
def hub_with(root: Path, fixture: headers.Fixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """One repository, one file of its true size, most of it a hole; nobody has gigabytes of zeros hashed for that."""
    monkeypatch.setattr(
        "tests.hub.repository._digests",
        lambda path, *_: (hashlib.sha1(path.name.encode()).hexdigest(), hashlib.sha256(path.name.encode()).hexdigest()),
    )
    folder = root / "ada" / "model"
    folder.mkdir(parents=True)
    headers.write_sparse(folder / FILE, fixture.tensors, fixture.metadata)
    with LoopbackHub(root) as hub:
        yield hub


def from_hub(hub: LoopbackHub) -> Origin:
    return open_origin(HubSource("ada/model"), endpoint=hub.endpoint, token=None, timeout=30, access=LOOPBACK)


def from_url(hub: LoopbackHub) -> Origin:
    url = f"{hub.endpoint}/ada/model/resolve/main/{FILE}"
    return open_origin(UrlSource(url), endpoint=hub.endpoint, token=None, timeout=30, access=LOOPBACK)


def transfers(hub: LoopbackHub) -> list[Seen]:
    """Requests for the file's bytes; those to the hub itself are redirected to the storage."""
    return [seen for seen in hub.seen if seen.server == "storage"]


@pytest.mark.parametrize("name", FIXTURES)
def test_one_request_and_the_report_of_the_local_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_with(tmp_path, FIXTURES[name], monkeypatch) as hub, from_hub(hub) as origin:
        candidate = examine(origin)
        hints = hints_for(origin, candidate.listing, candidate.selection)
        (transfer,) = transfers(hub)
    local = probe(tmp_path / "ada" / "model" / FILE, hints)
    assert candidate.report.as_dict() == {**local.as_dict(), "source": None}
    assert transfer.range == f"bytes=0-{REMOTE_PREFIX - 1}"
    assert transfer.sent <= REMOTE_PREFIX


def test_a_plain_address_takes_one_request_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_with(tmp_path, headers.load("single-file-sdxl"), monkeypatch) as hub, from_url(hub) as origin:
        assert examine(origin).report.family == "sdxl"
        (transfer,) = transfers(hub)
    assert transfer.sent == REMOTE_PREFIX


@pytest.mark.parametrize("origin_of", [from_hub, from_url])
def test_a_longer_header_takes_a_second_request_for_the_rest(
    origin_of: type[Origin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kohya writes every training tag into the metadata, which can come to megabytes."""
    fixture = headers.load("lora-sd-1-kohya")
    tagged = headers.Fixture(fixture.tensors, fixture.expect, {**fixture.metadata, "ss_tag_frequency": "x" * 900_000})
    length = len(headers.safetensors_bytes(tagged.tensors, tagged.metadata))
    with hub_with(tmp_path, tagged, monkeypatch) as hub, origin_of(hub) as origin:
        assert examine(origin).report.family == "sd-1"
        asked = [(transfer.range, transfer.sent) for transfer in transfers(hub)]
    assert asked == [
        (f"bytes=0-{REMOTE_PREFIX - 1}", REMOTE_PREFIX),
        (f"bytes={REMOTE_PREFIX}-{length - 1}", length - REMOTE_PREFIX),
    ]


PARTS = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]


def sharded(folder: Path, parts: list[str]) -> None:
    tensors = list(headers.load("unet-sd-1-miniature-diffusers").tensors.items())
    for name, some in zip(PARTS, (tensors[:50], tensors[50:]), strict=True):
        if name in parts:
            headers.write_sparse(folder / name, dict(some))


def pipeline(root: Path, parts: list[str]) -> None:
    """Of a UNet in two files."""
    unet = root / "ada" / "model" / "unet"
    unet.mkdir(parents=True)
    (unet.parent / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    sharded(unet, parts)


def test_a_pipeline_in_shards_is_examined_as_one(tmp_path: Path) -> None:
    pipeline(tmp_path, PARTS)
    with LoopbackHub(tmp_path) as hub, from_hub(hub) as origin:
        candidate = examine(origin)
    assert (candidate.report.family, candidate.report.kind) == ("sd-1", "checkpoint")
    assert {file.path for file in candidate.selection.weights} == {f"unet/{name}" for name in PARTS}


@pytest.mark.parametrize("there", PARTS)
def test_a_pipeline_that_lacks_a_shard_is_refused_before_it_is_fetched(there: str, tmp_path: Path) -> None:
    pipeline(tmp_path, [there])
    with (
        LoopbackHub(tmp_path) as hub,
        from_hub(hub) as origin,
        pytest.raises(UnreadableModel, match="lacks 1 of the 2 files") as caught,
    ):
        examine(origin)
    assert caught.value.code == "truncated"
    assert transfers(hub) == []


def test_shards_without_a_pipeline_are_no_models_to_install(tmp_path: Path) -> None:
    folder = tmp_path / "ada" / "model"
    folder.mkdir(parents=True)
    sharded(folder, PARTS)
    with LoopbackHub(tmp_path) as hub, from_hub(hub) as origin, pytest.raises(NoWeights) as caught:
        examine(origin)
    assert ["give that folder" in candidate["report"]["reason"] for candidate in caught.value.detail["candidates"]] == [
        True,
        True,
    ]


@pytest.mark.parametrize("text", [b"[" * 1_000_000, b"{", b"[]", b"\xff"], ids=["deep", "cut", "a list", "no text"])
def test_a_configuration_that_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    origin = open_origin(PathSource(tmp_path), endpoint="https://hub.test", token=None, timeout=30, access=LOOPBACK)
    with origin, pytest.raises(UnreadableModel) as caught:
        read_json(origin, RemoteFile("config.json", len(text), None))
    assert caught.value.code == "bad_config"
