"""Who may speak to the service, and which of the server's paths they may name."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.guard import is_loopback
from api.server import run
from registry.errors import NotFound, PathRefused, TokenRequired
from registry.installs.folders import admit
from registry.installs.origins.folder import FolderOrigin
from registry.manager import Manager
from registry.scopes import Scope
from registry.settings import Settings
from registry.sidecars import read_beside
from registry.sources import PathSource
from tests.demo.strangers import sd15_lora, write


def client(manager: Manager, *, is_local: bool, host: str = "127.0.0.1:8420", token: str | None = None) -> TestClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(create_app(manager, is_local=is_local), base_url=f"http://{host}", headers=headers)


def status(manager: Manager, **options: object) -> tuple[int, str | None]:
    answer = client(manager, **options).get("/v1/installs")  # type: ignore[arg-type]
    return answer.status_code, None if answer.is_success else answer.json()["code"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8420", "[::1]:8420", "LOCALHOST"])
def test_on_loopback_no_token_is_needed(manager: Manager, host: str) -> None:
    assert status(manager, is_local=True, host=host) == (200, None)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_a_web_page_whose_name_resolves_to_loopback_is_not_answered(manager: Manager, host: str) -> None:
    assert status(manager, is_local=True, host=host) == (403, "request_refused")
    named = client(manager, is_local=True).get("/v1/installs", headers={"Host": "[::1"})  # no address at all
    assert named.status_code == 403


@pytest.mark.parametrize(
    ("method", "headers", "answered"),
    [
        ("GET", {}, True),
        ("GET", {"Origin": "http://127.0.0.1:8420", "Sec-Fetch-Site": "same-origin"}, True),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ("GET", {"Origin": "https://evil.example"}, False),
        ("GET", {"Origin": "null"}, False),
        ("GET", {"Origin": "http://[127.0.0.1:8420"}, False),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
    ],
)
def test_a_page_of_another_site_is_not_answered(
    manager: Manager, method: str, headers: dict[str, str], answered: bool
) -> None:
    http = client(manager, is_local=True)
    code = http.request(method, "/v1/models", headers=headers).status_code
    assert (code != 403) == answered
    assert http.get("/healthz", headers=headers).status_code == 200
    http.headers["Authorization"] = f"Bearer {manager.tokens.create('ada')}"
    assert http.request(method, "/v1/models", headers=headers).status_code != 403


def test_elsewhere_every_request_shows_a_token(manager: Manager) -> None:
    token = manager.tokens.create("ada")
    assert status(manager, is_local=False) == (401, "token_required")
    assert status(manager, is_local=False, token=f"{token}x") == (401, "token_required")
    assert status(manager, is_local=False, token=token, host="shelf.example") == (200, None)
    answer = client(manager, is_local=False).get("/openapi.json")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (
        401,
        'Basic realm="modelshelf", Bearer realm="modelshelf"',
    )
    [kept] = manager.tokens.list()
    manager.tokens.revoke(kept.id)
    assert status(manager, is_local=False, token=token) == (401, "token_required")
    with pytest.raises(NotFound):
        manager.tokens.revoke(kept.id)


def test_whoever_shows_a_token_is_held_to_it_on_loopback_too(manager: Manager) -> None:
    token = manager.tokens.create("ada", [Scope.READ])
    assert client(manager, is_local=True, token=token).get("/v1/settings").status_code == 403
    manager.tokens.revoke("ada")
    assert status(manager, is_local=True, token=token) == (401, "token_required")
    assert status(manager, is_local=True, token="some-key-that-a-client-must-send") == (200, None)


def test_a_token_is_taken_as_a_password_too(manager: Manager) -> None:
    http, token = client(manager, is_local=False), manager.tokens.create("ada")
    assert http.get("/v1/models", auth=("anybody", token)).status_code == 200
    assert http.get("/v1/models", auth=("anybody", "guessed")).status_code == 401
    assert http.get("/v1/models", headers={"Authorization": "Basic no base64"}).status_code == 401


def test_whether_it_is_alive_is_told_to_everybody(manager: Manager) -> None:
    http = client(manager, is_local=False)
    assert [http.get(path).json() for path in ("/healthz", "/readyz")] == [{"status": "ok"}] * 2
    assert http.get("/metrics").status_code == 401


def test_a_page_of_another_site_cannot_make_a_browser_post(manager: Manager) -> None:
    http = client(manager, is_local=True)
    asked = {"json": {"source": "/nowhere"}, "headers": {"Origin": "https://evil.example"}}
    assert http.post("/v1/installs", **asked).json()["code"] == "request_refused"
    own = asked | {"headers": {"Origin": "http://127.0.0.1:8420"}}
    assert http.post("/v1/installs", **own).json()["code"] == "path_refused"


def test_a_token_is_not_kept(manager: Manager) -> None:
    token = manager.tokens.create("ada")
    manager.close()
    files = [p for p in manager.settings.root.rglob("*") if p.is_file()]
    assert files
    assert not any(token.encode() in p.read_bytes() for p in files)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_without_a_token_it_does_not_listen_elsewhere(manager: Manager, host: str) -> None:
    with pytest.raises(TokenRequired, match="modelshelf token create"):
        run(manager, host, 0)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_what_loopback_is(host: str, local: bool) -> None:
    assert is_loopback(host) is local


class TestPaths:
    def test_inside(self, tmp_path: Path) -> None:
        (tmp_path / "in/deep").mkdir(parents=True)
        assert admit(tmp_path / "in/deep", [tmp_path / "in"]) == tmp_path / "in/deep"
        assert admit(tmp_path / "out", None) == tmp_path / "out"

    @pytest.mark.parametrize("name", ["out", "in/../out", "in-between", "missing"])
    def test_outside(self, tmp_path: Path, name: str) -> None:
        for folder in ("in", "out", "in-between"):
            (tmp_path / folder).mkdir()
        with pytest.raises(PathRefused):
            admit(tmp_path / name, [tmp_path / "in"])

    @pytest.mark.parametrize("link", ["in/link", "in/deep/link"])
    def test_links_that_lead_out(self, tmp_path: Path, link: str) -> None:
        (tmp_path / "in/deep").mkdir(parents=True)
        (tmp_path / "secret").write_text("x")
        (tmp_path / link).symlink_to(tmp_path / "secret")
        with pytest.raises(PathRefused):
            FolderOrigin(PathSource(tmp_path / "in"), [tmp_path / "in"]).listing()

    def test_what_lies_beside_a_file_and_leads_out_says_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "in/ink.safetensors", sd15_lora())
        for name, text in (("README.md", "---\ntags: [x]\n---\nsecret"), ("ink.json", '{"description": "secret"}')):
            (tmp_path / name).write_text(text)
            (tmp_path / "in" / name).symlink_to(tmp_path / name)
        path = tmp_path / "in/ink.safetensors"
        origin = FolderOrigin(PathSource(path), [tmp_path / "in"])
        assert (origin.listing().card, read_beside(path, origin.may_read)) == (None, [])

    @pytest.mark.parametrize("name", ["installs", "probe", "scans"])
    def test_over_the_network(self, manager: Manager, name: str) -> None:
        asked = {"folder": "/etc"} if name == "scans" else {"source": "/etc/passwd"}
        answer = client(manager, is_local=True).post(f"/v1/{name}", json=asked)
        assert (answer.status_code, answer.json()["code"]) == (403, "path_refused")

    def test_what_leads_out_later_is_refused_then(self, manager: Manager, settings: Settings, tmp_path: Path) -> None:
        mine = settings.root / "incoming/ink.safetensors"
        write(mine, sd15_lora())
        write(tmp_path / "ink.safetensors", sd15_lora())
        manager.interrupt_installs()  # it will not run before the link is there
        job = manager.submit_install(str(mine))
        manager.wait()
        mine.unlink()
        mine.symlink_to(tmp_path / "ink.safetensors")
        successor = Manager(settings)
        successor.resume_installs()
        successor.wait()
        successor.close()
        error = manager.installs.get(job.id).error
        assert error is not None
        assert error["code"] == "path_refused"

    @pytest.mark.parametrize("place", ["copy", "move", "in_place"])
    def test_a_file_in_the_root_is_copied_moved_or_stays_as_the_request_says(
        self, manager: Manager, settings: Settings, place: str
    ) -> None:
        mine = settings.root / "incoming/ink.safetensors"
        write(mine, sd15_lora())
        http = client(manager, is_local=True)
        answer = http.post("/v1/installs", json={"source": str(mine), "place": place})
        assert answer.status_code == 202, answer.text
        manager.wait()
        assert http.get(answer.headers["Location"]).json()["state"] == "installed"
        [model] = http.get("/v1/models").json()["models"]
        assert (mine.exists(), model["managed"]) == {
            "copy": (True, True),
            "move": (False, True),
            "in_place": (True, False),
        }[place]

    @pytest.mark.parametrize("wrong", [{"place": "elsewhere"}, {"variant": "../x"}, {"place": "move"}])
    def test_what_cannot_be_asked_for(self, manager: Manager, wrong: dict[str, str]) -> None:
        answer = client(manager, is_local=True).post("/v1/installs", json={"source": "hf://a/b", **wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
