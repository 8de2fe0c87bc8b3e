"""The loopback hub, held against the real client."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import Fault, LoopbackHub
from tests.hub.fixtures import GATED, KNOWN, OPEN, OPENS, PRIVATE, WEIGHTS, stock
from tests.hub.repository import git_id


def api(hub: LoopbackHub, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def fetch(hub: LoopbackHub, cache: Path, name: str = WEIGHTS, *, repo: str = OPEN, **options: str | bool) -> Path:
    options = {"token": False, **options}
    return Path(hf_hub_download(repo, name, endpoint=hub.endpoint, cache_dir=cache, **options))


def test_model_info_tells_commit_card_sizes_and_digests(hub: LoopbackHub) -> None:
    info = api(hub).model_info(OPEN, files_metadata=True)
    body = (hub.root / OPEN / WEIGHTS).read_bytes()
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    assert len(info.sha) == 40
    assert info.card_data.license == "apache-2.0"
    assert info.tags == ["lora", "diffusers"]
    assert files[WEIGHTS].lfs.sha256 == hashlib.sha256(body).hexdigest()
    assert files[WEIGHTS].lfs.size == files[WEIGHTS].size == len(body)
    assert files["README.md"].lfs is None


def test_without_blobs_it_lists_names_only(hub: LoopbackHub) -> None:
    assert {sibling.size for sibling in api(hub).model_info(OPEN).siblings} == {None}


def test_blob_ids_are_those_of_git(hub: LoopbackHub) -> None:
    """Held against the id in https://git-scm.com/book/en/v2/Git-Internals-Git-Objects: these tests need no git."""
    (hub.root / OPEN / "README.md").write_text("test content\n")
    files = {sibling.rfilename: sibling for sibling in api(hub).model_info(OPEN, files_metadata=True).siblings}
    assert files["README.md"].blob_id == "d670460b4b4aece5915caf5c68d12f560a9fe3e4"
    digest, size = files[WEIGHTS].lfs.sha256, files[WEIGHTS].lfs.size
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n".encode()
    assert files[WEIGHTS].blob_id == git_id("blob", pointer)
    assert files[WEIGHTS].lfs.pointer_size == len(pointer)


def test_a_commit_follows_from_the_content(hub: LoopbackHub) -> None:
    before = api(hub).model_info(OPEN).sha
    assert api(hub).model_info(OPEN).sha == before
    (hub.root / OPEN / "README.md").write_text("other")
    assert api(hub).model_info(OPEN).sha != before


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1"])
def test_revisions_are_branches_tags_and_commits(hub: LoopbackHub, tmp_path: Path, revision: str) -> None:
    info = api(hub).model_info(OPEN, revision=revision)
    assert info.sha != api(hub).model_info(OPEN).sha
    assert api(hub).model_info(OPEN, revision=info.sha).sha == info.sha
    by_name = fetch(hub, tmp_path / "a", revision=revision)
    assert by_name.read_bytes() == fetch(hub, tmp_path / "b", revision=info.sha).read_bytes()
    assert by_name.read_bytes() != fetch(hub, tmp_path / "c").read_bytes()


def test_the_client_downloads_through_the_second_origin(hub: LoopbackHub, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path / "cache").read_bytes() == (hub.root / OPEN / WEIGHTS).read_bytes()
    assert [seen.server for seen in hub.seen if seen.method == "GET"] == ["storage"]
    assert hub.storage != hub.endpoint


def test_small_files_come_from_the_hub_itself(hub: LoopbackHub, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path / "cache", "epochs/a file #1.json").read_bytes() == b"{}"
    assert {seen.server for seen in hub.seen} == {"hub"}


def test_file_metadata(hub: LoopbackHub) -> None:
    weights = get_hf_file_metadata(hf_hub_url(OPEN, WEIGHTS, endpoint=hub.endpoint), token=False)
    card = get_hf_file_metadata(hf_hub_url(OPEN, "README.md", endpoint=hub.endpoint), token=False)
    body = (hub.root / OPEN / WEIGHTS).read_bytes()
    assert weights.etag == hashlib.sha256(body).hexdigest()
    assert weights.size == len(body)
    assert weights.location.startswith(hub.storage)
    assert weights.commit_hash == card.commit_hash == api(hub).model_info(OPEN).sha
    assert len(card.etag) == 40


def test_tree_and_paths_info(hub: LoopbackHub) -> None:
    tree = {entry.path: entry for entry in api(hub).list_repo_tree(OPEN, recursive=True)}
    assert {"epochs", "epochs/outline-10.safetensors", "README.md"} <= tree.keys()
    assert {entry.path for entry in api(hub).list_repo_tree(OPEN)} == {"README.md", "epochs", WEIGHTS}
    weights, folder = api(hub).get_paths_info(OPEN, [WEIGHTS, "epochs", "absent"])
    assert weights.lfs.sha256 == tree[WEIGHTS].lfs.sha256
    assert folder.path == "epochs"


ERRORS: list[tuple[str, type[Exception], Callable[[LoopbackHub, Path], object]]] = [
    ("missing repository", RepositoryNotFoundError, lambda hub, _: api(hub).model_info("ada/absent")),
    ("private repository", RepositoryNotFoundError, lambda hub, _: api(hub, KNOWN).model_info(PRIVATE)),
    ("missing revision", RevisionNotFoundError, lambda hub, _: api(hub).model_info(OPEN, revision="v9")),
    ("missing file", EntryNotFoundError, lambda hub, cache: fetch(hub, cache, "absent.safetensors")),
    ("gated, no token", GatedRepoError, lambda hub, cache: fetch(hub, cache, repo=GATED)),
    ("gated, other token", GatedRepoError, lambda hub, cache: fetch(hub, cache, repo=GATED, token=KNOWN)),
    ("unknown token", HfHubHTTPError, lambda hub, _: api(hub, "hf_unknown").model_info(OPEN)),
]


@pytest.mark.parametrize(("error", "call"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_refusals_are_the_clients_own_errors(
    hub: LoopbackHub, tmp_path: Path, error: type[Exception], call: Callable[[LoopbackHub, Path], object]
) -> None:
    with pytest.raises(error) as caught:
        call(hub, tmp_path / "cache")
    assert type(caught.value) is error or error is EntryNotFoundError


def test_the_facts_of_a_gated_repository_are_public(hub: LoopbackHub) -> None:
    assert api(hub).model_info(GATED).gated == "auto"


def test_the_right_token_opens_and_does_not_reach_the_storage(hub: LoopbackHub, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path, repo=GATED, token=OPENS).exists()
    assert fetch(hub, tmp_path, repo=PRIVATE, token=OPENS).exists()
    assert {(seen.server, seen.authorized) for seen in hub.seen} == {("hub", True), ("storage", False)}


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=300000-99999999", 206, slice(300_000, None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        (None, 200, slice(None)),
    ],
)
def test_ranges(hub: LoopbackHub, wanted: str | None, status: int, part: slice) -> None:
    url, body = hf_hub_url(OPEN, WEIGHTS, endpoint=hub.endpoint), (hub.root / OPEN / WEIGHTS).read_bytes()
    answer = httpx.get(url, headers={"Range": wanted} if wanted else {}, follow_redirects=True)
    assert (answer.status_code, answer.content) == (status, body[part])
    assert hub.seen[-1].range == wanted


def test_an_unsigned_address_of_the_storage_is_refused(hub: LoopbackHub) -> None:
    assert httpx.get(f"{hub.storage}/repos/{OPEN}/main/{WEIGHTS}").status_code == 403


class TestFaults:
    NAME = f"{OPEN}/{WEIGHTS}"

    def get(self, hub: LoopbackHub, **headers: str) -> httpx.Response:
        return httpx.get(hf_hub_url(OPEN, WEIGHTS, endpoint=hub.endpoint), headers=headers, follow_redirects=True)

    def test_cut_off(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(cut_after=1000, cuts=1)
        with pytest.raises(httpx.RemoteProtocolError, match="received 1000 bytes"):
            self.get(hub)
        assert self.get(hub).status_code == 200

    def test_stalling(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(cut_after=1000, cuts=1, stalls=True)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(hf_hub_url(OPEN, WEIGHTS, endpoint=hub.endpoint), timeout=0.1, follow_redirects=True)

    def test_slow(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(bytes_per_second=1_500_000)
        assert self.get(hub).elapsed.total_seconds() > 0.15

    def test_wrong_bytes(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(corrupt=True)
        body, wrong = (hub.root / OPEN / WEIGHTS).read_bytes(), self.get(hub).content
        assert sum(a != b for a, b in zip(body, wrong, strict=True)) == 1

    def test_failing_for_a_while(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(fail_next=2, status=500)
        assert [self.get(hub).status_code for _ in range(3)] == [500, 500, 200]
        hub.faults[OPEN] = Fault(fail_next=1)
        with pytest.raises(HfHubHTTPError, match="503"):
            api(hub).model_info(OPEN)

    def test_ignoring_ranges(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(ignores_range=True)
        assert self.get(hub, Range="bytes=10-").status_code == 200

    def test_sending_more_than_announced(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(extra=5)
        assert len(self.get(hub).content) == (hub.root / OPEN / WEIGHTS).stat().st_size + 5

    def test_telling_no_length(self, hub: LoopbackHub) -> None:
        hub.faults[self.NAME] = Fault(chunked=True)
        answer = self.get(hub)
        assert "Content-Length" not in answer.headers
        assert answer.content == (hub.root / OPEN / WEIGHTS).read_bytes()


def test_as_a_process_it_prints_its_endpoint_first(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hub", str(stock(tmp_path / "hub"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        endpoint = process.stdout.readline().strip()
        info = HfApi(endpoint=endpoint, token=False).model_info(OPEN)
        process.terminate()
        assert process.wait(timeout=10) == 0
    assert info.id == OPEN
