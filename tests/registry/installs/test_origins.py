"""The three places that files come from, read in the same way; and every refusal in the user's terms."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest

from probes import REMOTE_PREFIX
from registry.errors import (
    Cancelled,
    DownloadIncomplete,
    FileMissing,
    GatedRepository,
    HubUnreachable,
    HubUnusable,
    InvalidSource,
    ModelshelfError,
    Refused,
    RepositoryNotFound,
    RevisionNotFound,
    TokenRefused,
    UnusableFile,
)
from registry.installs.origins import Listing, Origin, RangeIgnored, RangeUnsatisfiable, RemoteFile, folder, open_origin
from registry.installs.origins import hub as hub_origin
from registry.installs.origins.http import PIECES, retry_after, total_size
from registry.installs.origins.url import file_name
from registry.sources import HubSource, PathSource, UrlSource
from tests.hub import Fault, LoopbackHub
from tests.hub.fixtures import CARD, GATED, KNOWN, OPEN, OPENS, PRIVATE, WEIGHTS
from tests.hub.repository import git_id
from tests.loopback import LOOPBACK

pytestmark = pytest.mark.usefixtures("impatient")


def on_hub(hub: LoopbackHub, *source: Any, token: str | None = None, timeout: float = 30) -> Origin:
    return open_origin(
        HubSource(*(source or (OPEN,))), endpoint=hub.endpoint, token=token, timeout=timeout, access=LOOPBACK
    )


def at_url(hub: LoopbackHub, name: str = f"{OPEN}/resolve/main/{WEIGHTS}") -> Origin:
    return open_origin(
        UrlSource(f"{hub.endpoint}/{name}"), endpoint=hub.endpoint, token="hf_mine", timeout=30, access=LOOPBACK
    )


def on_disk(hub: LoopbackHub, name: str = OPEN) -> Origin:
    return open_origin(PathSource(hub.root / name), endpoint=hub.endpoint, token=None, timeout=5, access=LOOPBACK)


def by_path(listing: Listing) -> dict[str, RemoteFile]:
    return {file.path: file for file in listing.files}


class TestEveryOrigin:
    """What holds for all three, with the same file behind them."""

    @pytest.fixture(params=[on_hub, at_url, on_disk])
    def origin(self, request: pytest.FixtureRequest, hub: LoopbackHub) -> Iterator[Origin]:
        with request.param(hub) as origin:
            yield origin

    @pytest.fixture
    def body(self, hub: LoopbackHub) -> bytes:
        return (hub.root / OPEN / WEIGHTS).read_bytes()

    def test_tells_the_size(self, origin: Origin, body: bytes) -> None:
        assert by_path(origin.listing())[WEIGHTS].size == len(body)

    def test_answers_the_same_listing_again(self, origin: Origin) -> None:
        assert origin.listing() is origin.listing()

    @pytest.mark.parametrize(("start", "length"), [(0, 10), (0, 512 * 1024), (70_000, 5), (300_000, 10**6), (10**7, 5)])
    def test_reads_a_part(self, origin: Origin, body: bytes, start: int, length: int) -> None:
        file = by_path(origin.listing())[WEIGHTS]
        assert origin.read(file, start, length) == body[start : start + length]

    @pytest.mark.parametrize("start", [0, 1, 200_000])
    def test_streams_from_an_offset(self, origin: Origin, body: bytes, start: int) -> None:
        with origin.stream(by_path(origin.listing())[WEIGHTS], start) as chunks:
            assert b"".join(chunks) == body[start:]


REFUSALS: list[tuple[str, tuple[Any, ...], str | None, type[ModelshelfError], str]] = [
    ("missing", ("ada/absent",), None, RepositoryNotFound, "no model repository ada/absent, or it is private"),
    ("private", (PRIVATE,), None, RepositoryNotFound, "set HF_TOKEN"),
    ("private, other token", (PRIVATE,), KNOWN, RepositoryNotFound, "set HF_TOKEN"),
    ("revision", (OPEN, "v9"), None, RevisionNotFound, f"{OPEN} has no branch, tag or commit v9"),
    ("gated", (GATED,), None, GatedRepository, rf"Accept its terms at \S+/{GATED}, and set HF_TOKEN"),
    ("gated, other token", (GATED,), KNOWN, GatedRepository, "Accept its terms"),
    ("unknown token", (OPEN,), "hf_unknown", TokenRefused, "does not accept the HF_TOKEN"),
    ("no such name", ("a..b/c",), None, InvalidSource, "cannot be a repository's name"),
]


class TestHub:
    def test_the_listing_pins_a_commit(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin:
            listing = origin.listing()
        weights = by_path(listing)[WEIGHTS]
        assert listing.repo_id == OPEN
        assert len(listing.revision) == 40
        assert listing.source == f"hf://{OPEN}@{listing.revision}"
        assert listing.card == CARD
        assert listing.focus == ""
        assert weights.sha256 == hashlib.sha256((hub.root / OPEN / WEIGHTS).read_bytes()).hexdigest()
        assert by_path(listing)["README.md"].sha256 is None

    def test_reads_stay_with_the_commit_that_was_listed(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            (hub.root / OPEN / "README.md").write_text("another commit")
            with pytest.raises(
                RevisionNotFound
            ):  # the loopback hub forgets old commits; ours must not take the new one
                origin.read(file, 0, 10)

    @pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1"])
    def test_a_revision(self, hub: LoopbackHub, revision: str) -> None:
        with on_hub(hub, OPEN, revision) as origin:
            listing = origin.listing()
            assert (
                origin.read(listing.files[0], 0, 10**6)
                == (hub.root / f"{OPEN}@{revision.replace('/', '%2F')}" / WEIGHTS).read_bytes()
            )
        assert listing.card is None

    @pytest.mark.parametrize("path", ["epochs", "epochs/outline-10.safetensors", "epochs/a file #1.json"])
    def test_a_file_or_folder_named_is_the_focus(self, hub: LoopbackHub, path: str) -> None:
        with on_hub(hub, OPEN, None, path) as origin:
            listing = origin.listing()
            assert listing.focus == path
            assert listing.source == f"hf://{OPEN}@{listing.revision}/{path}"
            assert WEIGHTS in by_path(listing)

    def test_names_with_spaces_and_hashes(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin:
            assert origin.read(by_path(origin.listing())["epochs/a file #1.json"], 0, 100) == b"{}"

    @pytest.mark.parametrize(
        ("path", "close"),
        [
            ("pytorch_lora_weight.safetensors", WEIGHTS),
            ("outline-10.safetensors", "epochs/outline-10.safetensors"),
            ("epoch", "epochs"),
            ("zzz", None),
        ],
    )
    def test_a_name_that_is_not_there_suggests_close_ones(self, hub: LoopbackHub, path: str, close: str | None) -> None:
        with on_hub(hub, OPEN, None, path) as origin, pytest.raises(FileMissing) as caught:
            origin.listing()
        assert (f"Did you mean {close}" in caught.value.message) if close else ("Did you" not in caught.value.message)

    @pytest.mark.parametrize("repo", [GATED, PRIVATE])
    def test_the_token_opens_and_goes_to_no_other_host(self, hub: LoopbackHub, repo: str) -> None:
        with on_hub(hub, repo, token=OPENS) as origin:
            assert len(origin.read(by_path(origin.listing())[WEIGHTS], 0, 100)) == 100
        assert {(seen.server, seen.authorized) for seen in hub.seen} == {("hub", True), ("storage", False)}

    def test_without_a_token_none_is_sent(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub_origin, "get_token", lambda: KNOWN)  # as if found in the home folder
        with on_hub(hub) as origin:
            origin.listing()
        assert not any(seen.authorized for seen in hub.seen)

    @pytest.mark.parametrize(
        ("source", "token", "error", "sentence"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
    )
    def test_refusals(
        self, hub: LoopbackHub, source: Any, token: str | None, error: type[Exception], sentence: str
    ) -> None:
        with on_hub(hub, *source, token=token) as origin, pytest.raises(error, match=sentence) as caught:
            origin.listing()
        assert type(caught.value) is error
        assert "\n" not in caught.value.message

    def test_a_gated_repository_without_a_card_is_refused_at_its_first_file(self, hub: LoopbackHub) -> None:
        (hub.root / GATED / "README.md").unlink()
        with on_hub(hub, GATED) as origin, pytest.raises(GatedRepository):
            origin.read(origin.listing().files[0], 0, 10)

    def test_a_file_that_is_not_there(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin, pytest.raises(FileMissing, match=f"{OPEN} has no file absent.json at main"):
            origin.read(RemoteFile("absent.json", None, None), 0, 10)

    def test_storage_that_refuses(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            monkeypatch.setattr(hub, "signature", lambda _: token_hex(8))
            with pytest.raises(HubUnreachable, match="where it keeps files, answers 403"):
                origin.read(file, 0, 10)

    def test_offline_mode(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with on_hub(hub) as origin, pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE is set"):
            origin.listing()

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/passwd", "a\\b.gguf", "C:x.gguf", "a\nb.txt", "a\x1b[31m.txt", "\ud800"]
    )
    def test_a_name_that_leads_out_or_nowhere_is_left_out_of_the_listing(self, hub: LoopbackHub, name: str) -> None:
        listed = [{"rfilename": "a.gguf"}, {"rfilename": name}]
        hub.faults[OPEN] = Fault(says=json.dumps({"sha": "0" * 40, "siblings": listed}).encode())
        with on_hub(hub) as origin:
            listing = origin.listing()
        assert ([f.path for f in listing.files], [f.path for f in listing.left_out]) == (["a.gguf"], [name])

    @pytest.mark.parametrize(
        "says",
        [b"<html>Log in</html>", b"[]", b"{}", b'{"sha": "0", "siblings": [7]}', b'{"sha": "0", "siblings": [{}]}'],
    )
    def test_something_else_instead_of_a_hub(self, hub: LoopbackHub, says: bytes) -> None:
        hub.faults[OPEN] = Fault(says=says)
        with on_hub(hub) as origin, pytest.raises(HubUnreachable, match="does not answer like a Hugging Face Hub"):
            origin.listing()

    def test_the_login_is_for_the_public_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub_origin, "get_token", lambda: "hf_of_the_login")
        assert hub_origin._login("https://huggingface.co") == "hf_of_the_login"
        assert hub_origin._login("https://mirror.example") is None

    def test_small_files_announce_the_digest_that_git_gives_them(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin:
            files = by_path(origin.listing())
        assert files["README.md"].git == git_id("blob", (hub.root / OPEN / "README.md").read_bytes())
        assert files[WEIGHTS].git is None


class TestPatience:
    def test_a_server_that_recovers(self, hub: LoopbackHub) -> None:
        hub.faults[OPEN] = Fault(fail_next=2, status=503)
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(fail_next=3, status=500)
        with on_hub(hub) as origin:
            assert origin.read(by_path(origin.listing())[WEIGHTS], 0, 10)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_server_that_does_not(self, hub: LoopbackHub, status: int) -> None:
        hub.faults[OPEN] = Fault(fail_next=99, status=status)
        with on_hub(hub) as origin, pytest.raises(HubUnreachable, match=str(status)):
            origin.listing()
        assert len(hub.seen) == 4

    def test_the_same_for_a_file(self, hub: LoopbackHub) -> None:
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(fail_next=99)
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            with pytest.raises(HubUnreachable, match="503"):
                origin.read(file, 0, 10)

    def test_nobody_listens(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with (
                open_origin(HubSource(OPEN), endpoint=endpoint, token=None, timeout=1, access=LOOPBACK) as origin,
                pytest.raises(HubUnreachable, match="cannot be reached"),
            ):
                origin.listing()
            with (
                open_origin(
                    UrlSource(f"{endpoint}/a"), endpoint=endpoint, token=None, timeout=1, access=LOOPBACK
                ) as origin,
                pytest.raises(HubUnreachable, match="cannot be reached"),
            ):
                origin.listing()

    def test_a_server_that_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with (
                open_origin(HubSource(OPEN), endpoint=endpoint, token=None, timeout=0.05, access=LOOPBACK) as origin,
                pytest.raises(HubUnreachable, match="timed out"),
            ):
                origin.listing()

    def test_a_server_that_is_no_hub(self, hub: LoopbackHub) -> None:
        with (
            open_origin(
                HubSource(OPEN), endpoint=f"{hub.endpoint}/elsewhere", token=None, timeout=5, access=LOOPBACK
            ) as origin,
            pytest.raises(HubUnreachable, match=r"status 404.*Check HF_ENDPOINT"),
        ):
            origin.listing()

    @pytest.mark.parametrize("after", ["0", "1"])
    def test_a_pause_that_the_server_asks_for(self, hub: LoopbackHub, after: str) -> None:
        hub.faults[OPEN] = Fault(fail_next=1, status=429, retry_after=after)
        began = time.monotonic()
        with on_hub(hub) as origin:
            origin.listing()
        assert time.monotonic() - began >= int(after)

    def test_a_pause_that_is_too_long(self, hub: LoopbackHub) -> None:
        hub.faults[OPEN] = Fault(fail_next=1, status=429, retry_after="3600")
        with on_hub(hub) as origin, pytest.raises(HubUnreachable, match="left alone for 3600 s"):
            origin.listing()
        assert len(hub.seen) == 1

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("120", 120), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("", None), ("Wed, 21 Oct 2015", None)],
    )
    def test_both_ways_to_ask_for_it(self, value: str, seconds: float | None) -> None:
        assert retry_after(httpx.Response(429, headers={"Retry-After": value})) == seconds

    def test_a_wait_that_is_no_longer_wanted(self, hub: LoopbackHub) -> None:
        """A silent server, and a pause between retries: an install that is cancelled lets go of both at once."""

        def check() -> None:
            raise Cancelled("enough")

        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(cut_after=10, stalls=True)
        began = time.monotonic()
        options = {"endpoint": hub.endpoint, "token": None, "timeout": 60, "access": LOOPBACK, "check": check}
        with open_origin(HubSource(OPEN), **options) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            with pytest.raises(Cancelled), origin.stream(file) as chunks:
                list(chunks)
            hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(fail_next=9, retry_after="30")
            with pytest.raises(Cancelled):
                origin.read(file, 0, 10)
        assert time.monotonic() - began < 20

    @pytest.mark.parametrize("ignores_range", [False, True])
    def test_a_read_that_is_cut_goes_on_where_it_was(self, hub: LoopbackHub, ignores_range: bool) -> None:
        cuts = 2 if ignores_range else 10**6
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(cut_after=1000, cuts=cuts, ignores_range=ignores_range)
        with on_hub(hub) as origin:
            read = origin.read(by_path(origin.listing())[WEIGHTS], 100, 5000)
        assert read == (hub.root / OPEN / WEIGHTS).read_bytes()[100:5100]
        assert len([s for s in hub.seen if s.server == "storage"]) == (3 if ignores_range else 5)


@pytest.mark.parametrize(("encoding", "size"), [("identity", 500), ("gzip", None), ("br", None)])
def test_the_length_of_a_compressed_answer_is_not_the_files(encoding: str, size: int | None) -> None:
    headers = {"Content-Encoding": encoding}
    assert total_size(httpx.Response(200, headers={**headers, "Content-Length": "500"})) == size
    assert total_size(httpx.Response(206, headers={**headers, "Content-Range": "bytes 0-9/500"})) == size


class TestRanges:
    """What a stream does when the server will not continue."""

    def test_another_part_than_was_asked_for(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            monkeypatch.setattr("registry.installs.origins.http.range_start", lambda response: 1000)
            with pytest.raises(HubUnusable, match="another part"):
                origin.read(file, 100, 50)

    def test_less_than_was_asked_for_is_continued(self, hub: LoopbackHub) -> None:
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(piece=1000)
        with on_hub(hub) as origin:
            read = origin.read(by_path(origin.listing())[WEIGHTS], 100, 5000)
        assert read == (hub.root / OPEN / WEIGHTS).read_bytes()[100:5100]

    def test_but_not_for_ever(self, hub: LoopbackHub) -> None:
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(piece=1)
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            with pytest.raises(HubUnusable, match="too little at a time: 16 bytes in 16 answers, where 5,000"):
                origin.read(file, 100, 5000)
        assert len([s for s in hub.seen if s.server == "storage"]) == PIECES

    def test_a_file_that_is_shorter_than_what_is_asked_for_takes_one_answer(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            assert len(origin.read(file, 0, file.size + 1000)) == file.size
        assert len([s for s in hub.seen if s.server == "storage"]) == 1

    def test_the_whole_file_instead(self, hub: LoopbackHub) -> None:
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(ignores_range=True)
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            with pytest.raises(RangeIgnored), origin.stream(file, 100):
                pass
            assert origin.read(file, 100, 50) == (hub.root / OPEN / WEIGHTS).read_bytes()[100:150]

    def test_nothing_after_the_end(self, hub: LoopbackHub) -> None:
        with on_hub(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            with pytest.raises(RangeUnsatisfiable) as caught, origin.stream(file, file.size):
                pass
            assert caught.value.size == file.size

    def test_a_broken_stream(self, hub: LoopbackHub) -> None:
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(cut_after=1000)
        with (
            on_hub(hub) as origin,
            origin.stream(by_path(origin.listing())[WEIGHTS]) as chunks,
            pytest.raises(DownloadIncomplete, match="broke"),
        ):
            list(chunks)


class TestUrl:
    def test_a_listing_of_one_file(self, hub: LoopbackHub) -> None:
        with at_url(hub) as origin:
            listing = origin.listing()
        body = (hub.root / OPEN / WEIGHTS).read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()}"'  # the loopback storage's
        assert listing.files == (RemoteFile(WEIGHTS, len(body), None, etag=etag),)
        assert (listing.repo_id, listing.revision, listing.card, listing.focus) == (None, None, None, WEIGHTS)
        assert listing.source == f"{hub.endpoint}/{OPEN}/resolve/main/{WEIGHTS}"

    def test_the_hubs_token_is_not_for_it(self, hub: LoopbackHub) -> None:
        with at_url(hub) as origin:
            origin.listing()
        assert not any(seen.authorized for seen in hub.seen)

    def test_the_server_may_name_the_file(self, hub: LoopbackHub) -> None:
        (hub.root / OPEN / "7").write_bytes(b"x")
        with at_url(hub, f"{OPEN}/resolve/main/7") as origin:
            assert origin.listing().files[0].path == "7"
        with at_url(hub, f"{OPEN}/resolve/main/epochs/outline-10.safetensors?type=Model") as origin:
            assert origin.listing().files[0].path == "outline-10.safetensors"

    def test_a_length_that_is_not_told(self, hub: LoopbackHub) -> None:
        hub.faults[f"{OPEN}/{WEIGHTS}"] = Fault(chunked=True, ignores_range=True)
        with at_url(hub) as origin:
            assert origin.listing().files[0].size is None

    def test_an_empty_file(self, hub: LoopbackHub) -> None:
        (hub.root / OPEN / "empty").write_bytes(b"")
        with at_url(hub, f"{OPEN}/resolve/main/empty") as origin:
            assert origin.listing().files == (RemoteFile("empty", 0, None),)
            assert origin.read(origin.listing().files[0], 0, 10) == b""

    def test_a_file_that_changes_meanwhile_is_not_continued(self, hub: LoopbackHub) -> None:
        with at_url(hub) as origin:
            file = origin.listing().files[0]
            (hub.root / OPEN / WEIGHTS).write_bytes(bytes(file.size))
            with pytest.raises(RangeIgnored), origin.stream(file, 100):
                pass

    def test_nor_is_a_header_put_together_from_two_versions(self, hub: LoopbackHub) -> None:
        long = hub.root / OPEN / "long"
        long.write_bytes(bytes(REMOTE_PREFIX + 100))
        with at_url(hub, f"{OPEN}/resolve/main/long") as origin:
            file = origin.listing().files[0]
            assert len(origin.read(file, REMOTE_PREFIX, 200)) == 100
            long.write_bytes(bytes([1]) * (REMOTE_PREFIX + 100))
            with pytest.raises(DownloadIncomplete, match="has changed"):
                origin.read(file, REMOTE_PREFIX, 200)

    @pytest.mark.parametrize(
        ("name", "error", "sentence"),
        [
            (f"{OPEN}/resolve/main/absent.gguf", FileMissing, "has no file at http"),
            (f"{GATED}/resolve/main/{WEIGHTS}", Refused, r"does not hand out .* \(401.*install the file by its path"),
        ],
    )
    def test_refusals(self, hub: LoopbackHub, name: str, error: type[Exception], sentence: str) -> None:
        hub.tokens = {"hf_mine": set()}
        with at_url(hub, name) as origin, pytest.raises(error, match=sentence):
            origin.listing()


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("style.safetensors", "style.safetensors"),
        ("C:\\models\\style.safetensors", "style.safetensors"),
        ("../style.safetensors", "style.safetensors"),
        ("line\x1bbreak.safetensors", None),
        ("", None),
    ],
)
def test_what_an_address_calls_its_file(said: str, name: str | None) -> None:
    quoted = said.replace("\\", "\\\\")
    answer = httpx.Response(200, headers={"Content-Disposition": f'attachment; filename="{quoted}"'})
    assert file_name(answer) == name


class TestDisk:
    def test_a_folder(self, hub: LoopbackHub) -> None:
        (hub.root / OPEN / ".git").mkdir()
        (hub.root / OPEN / ".git" / "config").write_text("hidden")
        (hub.root / OPEN / ".hidden").write_text("hidden")
        with on_disk(hub) as origin:
            listing = origin.listing()
        assert set(by_path(listing)) == {
            "README.md",
            WEIGHTS,
            "epochs/outline-10.safetensors",
            "epochs/a file #1.json",
        }
        assert {file.sha256 for file in listing.files} == {None}
        assert (listing.source, listing.focus, listing.card) == (str(hub.root / OPEN), "", CARD)

    def test_a_file_and_the_card_beside_it(self, hub: LoopbackHub) -> None:
        with on_disk(hub, f"{OPEN}/{WEIGHTS}") as origin:
            listing = origin.listing()
        assert list(by_path(listing)) == [listing.focus] == [WEIGHTS]
        assert listing.source == str(hub.root / OPEN / WEIGHTS)
        assert listing.card == CARD

    def test_a_readme_beside_a_file_that_is_no_card(self, hub: LoopbackHub) -> None:
        (hub.root / OPEN / "README.md").write_text("# My downloads")
        with on_disk(hub, f"{OPEN}/{WEIGHTS}") as origin:
            assert origin.listing().card is None
        with on_disk(hub) as origin:
            assert origin.listing().card == "# My downloads"

    def test_links_to_files_are_followed(self, hub: LoopbackHub, tmp_path: Path) -> None:
        """The folders of huggingface_hub's cache consist of them."""
        (tmp_path / "snapshot").mkdir()
        (tmp_path / "snapshot" / "a.safetensors").symlink_to(hub.root / OPEN / WEIGHTS)
        (tmp_path / "snapshot" / "loop").symlink_to(tmp_path / "snapshot")
        with open_origin(
            PathSource(tmp_path / "snapshot"), endpoint="", token=None, timeout=1, access=LOOPBACK
        ) as origin:
            (file,) = origin.listing().files
            assert (file.path, file.size) == ("a.safetensors", (hub.root / OPEN / WEIGHTS).stat().st_size)
            assert origin.read(file, 0, 8) == (hub.root / OPEN / WEIGHTS).read_bytes()[:8]

    def test_a_name_that_not_every_system_takes_is_left_out_of_a_folder_and_refused_by_itself(
        self, hub: LoopbackHub
    ) -> None:
        for name in ("back\\slash.gguf", "line\nbreak.txt"):
            (hub.root / OPEN / name).write_bytes(b"")
        with on_disk(hub) as origin:
            listing = origin.listing()
            assert WEIGHTS in by_path(listing)
            assert [f.path for f in listing.left_out] == ["back\\slash.gguf", "line\nbreak.txt"]
        with on_disk(hub, f"{OPEN}/back\\slash.gguf") as origin, pytest.raises(UnusableFile, match="not every system"):
            origin.listing()

    def test_nothing_there(self, hub: LoopbackHub) -> None:
        with on_disk(hub, "absent") as origin, pytest.raises(FileMissing, match="no file or folder"):
            origin.listing()

    def test_gone_meanwhile(self, hub: LoopbackHub) -> None:
        with on_disk(hub) as origin:
            file = by_path(origin.listing())[WEIGHTS]
            (hub.root / OPEN / WEIGHTS).unlink()
            with pytest.raises(FileMissing, match="no longer there"):
                origin.read(file, 0, 1)

    @pytest.mark.parametrize("read", [lambda o, f: o.read(f, 0, 1), lambda o, f: list(o.stream(f).__enter__())])
    def test_nothing_outside_is_read(self, hub: LoopbackHub, read: Callable[[Origin, RemoteFile], object]) -> None:
        with on_disk(hub) as origin, pytest.raises(UnusableFile, match="leads out of it"):
            read(origin, RemoteFile("../gated-lora/README.md", None, None))

    def test_neither_file_nor_folder(self) -> None:
        with (
            open_origin(PathSource(Path("/dev/null")), endpoint="", token=None, timeout=1, access=LOOPBACK) as origin,
            pytest.raises(InvalidSource, match="neither a file nor a folder"),
        ):
            origin.listing()

    def test_a_whole_disk(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folder, "FILES_LIMIT", 3)
        with on_disk(hub) as origin, pytest.raises(InvalidSource, match="more than 3 files"):
            origin.listing()
