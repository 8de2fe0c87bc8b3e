"""What a person may name, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import InvalidSource
from registry.sources import (
    HubSource,
    PathSource,
    Source,
    StarterSource,
    UrlSource,
    parse_source,
    relative_path,
    without_signature,
)

PUBLIC = "https://huggingface.co"
MIRROR = "http://127.0.0.1:8765"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


CASES: list[tuple[str, Source | str]] = [
    # -- repositories on the Hub
    ("ada/outline", HubSource("ada/outline")),
    ("  ada/outline\n", HubSource("ada/outline")),
    ("https://huggingface.co/ada/outline", HubSource("ada/outline")),
    ("https://huggingface.co/ada/outline/", HubSource("ada/outline")),
    ("https://www.huggingface.co/ada/outline", HubSource("ada/outline")),
    ("http://huggingface.co/ada/outline", HubSource("ada/outline")),
    ("huggingface.co/ada/outline", HubSource("ada/outline")),
    ("https://hf.co/ada/outline", HubSource("ada/outline")),
    ("hf.co/ada/outline", HubSource("ada/outline")),
    ("https://huggingface.co/ada/outline/tree/main", HubSource("ada/outline", "main")),
    ("https://huggingface.co/ada/outline/tree/v1.0/epochs", HubSource("ada/outline", "v1.0", "epochs")),
    ("https://huggingface.co/ada/outline/tree/v1.0/epochs/", HubSource("ada/outline", "v1.0", "epochs")),
    (
        "https://huggingface.co/ada/outline/blob/main/a.safetensors",
        HubSource("ada/outline", "main", "a.safetensors"),
    ),
    (
        f"https://huggingface.co/ada/outline/resolve/{COMMIT}/x/a.safetensors?download=true",
        HubSource("ada/outline", COMMIT, "x/a.safetensors"),
    ),
    ("https://huggingface.co/ada/outline/raw/main/README.md#usage", HubSource("ada/outline", "main", "README.md")),
    ("https://huggingface.co/ada/outline/blob/main/a%20file.gguf", HubSource("ada/outline", "main", "a file.gguf")),
    ("https://huggingface.co/ada/outline/blob/main/x%2Fa.gguf", HubSource("ada/outline", "main", "x/a.gguf")),
    ("https://huggingface.co/ada/outline/tree/refs%2Fpr%2F1", HubSource("ada/outline", "refs/pr/1")),
    ("https://huggingface.co/ada/outline/tree/feature%2Ffp16", HubSource("ada/outline", "feature/fp16")),
    ("hf://ada/outline", HubSource("ada/outline")),
    ("hf://models/ada/outline", HubSource("ada/outline")),
    ("HF://ada/outline", HubSource("ada/outline")),
    ("hf://ada/outline@v1.0", HubSource("ada/outline", "v1.0")),
    ("hf://ada/outline@refs/pr/1/x/a.gguf", HubSource("ada/outline", "refs/pr/1", "x/a.gguf")),
    ("hf://ada/outline/x/a@2.gguf", HubSource("ada/outline", None, "x/a@2.gguf")),
    ("ada/outline@v1.0", HubSource("ada/outline", "v1.0")),
    (f"ada/outline@{COMMIT}:epochs", HubSource("ada/outline", COMMIT, "epochs")),
    ("ada/outline:a.safetensors", HubSource("ada/outline", None, "a.safetensors")),
    ("ada/outline:x/a file.safetensors", HubSource("ada/outline", None, "x/a file.safetensors")),
    ("ada/outline@refs/pr/1:x/a.gguf", HubSource("ada/outline", "refs/pr/1", "x/a.gguf")),
    ("ada/outline@feature/fp16:unet", HubSource("ada/outline", "feature/fp16", "unet")),
    ("https://hf.co/ada/outline/tree/refs%2Fpr%2F3/unet", HubSource("ada/outline", "refs/pr/3", "unet")),
    (
        "https://huggingface.co/ada/outline/resolve/refs/pr/3/a.gguf",
        HubSource("ada/outline", "refs/pr/3", "a.gguf"),
    ),
    ("https://huggingface.co/ada/outline/blame/main/a.gguf", HubSource("ada/outline", "main", "a.gguf")),
    ("https://huggingface.co/ada/outline?library=diffusers", HubSource("ada/outline")),
    ("hf.co/ada/outline/blob/main/a.gguf", HubSource("ada/outline", "main", "a.gguf")),
    ("https://hf.co/ada/outline/resolve/v1/x/a.gguf?download=true", HubSource("ada/outline", "v1", "x/a.gguf")),
    ("https://hf.co/ada/outline/raw/main/adapter_config.json", HubSource("ada/outline", "main", "adapter_config.json")),
    ("hf://ada/outline@main/epochs", HubSource("ada/outline", "main", "epochs")),
    ("ada/outline:epochs", HubSource("ada/outline", None, "epochs")),
    # -- files elsewhere
    ("https://example.org/loras/a.safetensors", UrlSource("https://example.org/loras/a.safetensors")),
    (
        "https://example.org/api/download/models/7?type=Model#x",
        UrlSource("https://example.org/api/download/models/7?type=Model"),
    ),
    ("HTTPS://example.org/a%20b.gguf", UrlSource("https://example.org/a%20b.gguf")),
    (
        "https://civitai.com/api/download/models/7?type=Model&format=SafeTensor",
        UrlSource("https://civitai.com/api/download/models/7?type=Model&format=SafeTensor"),
    ),
    (
        "https://civitai.com/models/12/a-style?modelVersionId=34",
        UrlSource("https://civitai.com/api/download/models/34"),
    ),
    ("https://www.civitai.com/models/12/a-style", UrlSource("https://civitai.com/models/12")),  # its newest version
    ("https://civitai.com/models/12", UrlSource("https://civitai.com/models/12")),
    (
        "http://10.0.0.1:8000/a.gguf",
        UrlSource("http://10.0.0.1:8000/a.gguf"),
    ),  # refused later, unless a setting lets it in
    # -- on this machine: written like a path it is one, even if nothing is there (what is there wins, see TestPaths)
    ("./ada/outline", PathSource(Path("ada/outline"))),
    ("../x.gguf", PathSource(Path("../x.gguf"))),
    (".", PathSource(Path())),
    ("/models/x.safetensors", PathSource(Path("/models/x.safetensors"))),
    ("~/x.gguf", PathSource(Path("~/x.gguf"))),
    # -- what ships with modelshelf
    ("starter://starter-heart-lora", StarterSource("starter-heart-lora")),
    # -- refused, with these words
    ("starter://starter-hart", "no starter model; there are starter://starter-base, "),
    ("starter://../x", "no starter model"),
    ("", "No source"),
    ("   ", "No source"),
    ("gpt2", "neither OWNER/REPO"),
    ("a/b/c", "neither OWNER/REPO"),
    ("ada/outline:", "names no model repository"),
    ("ada/outline@:a.gguf", "There is no file"),
    ("ada/outline:../a.gguf", "not a plain"),
    ("ada/outline@v1:/etc/passwd", "must not contain empty"),
    ("https://civitai.com/api/download/models/7?token=abc", "must not hold a secret"),
    ("https://example.org/a.gguf?api_key=abc", "must not hold a secret"),
    ("https://example.org/a.gguf?private_token=abc", "must not hold a secret"),
    ("https://example.org/a.gguf?hf_token=abc", "must not hold a secret"),
    ("https://example.org/a.gguf?client_secret=abc", "must not hold a secret"),
    ("https://example.org/a.gguf?Authorization=abc", "must not hold a secret"),
    ("ada/", "names no model repository"),
    ("ada/-outline", "names no model repository"),
    ("ada/out line", "names no model repository"),
    (f"ada/{'x' * 100}", "names no model repository"),
    ("ada/out\x00line", "characters"),
    ("datasets/ada", "names no model repository"),
    ("hf://", "names no model repository"),
    ("hf://gpt2", "names no model repository"),
    ("hf://datasets/ada/shapes", "is a dataset"),
    ("hf://ada/outline@", "names no model repository"),
    ("hf://ada/outline@main/../../secrets.gguf", "not a plain"),
    ("hf://ada/outline@main/x\\..\\y.gguf", "not a plain"),
    ("https://huggingface.co/ada/outline/blob/main/..%2F..%2Fx.gguf", "not a plain"),
    ("https://huggingface.co/gpt2", "names no model repository"),
    ("https://huggingface.co/", "names no model repository"),
    ("https://huggingface.co/datasets/ada/shapes", "is a dataset"),
    ("https://huggingface.co/spaces/ada/demo", "is a space"),
    ("https://huggingface.co/ada/outline/discussions/1", "unsupported '/discussions/' route"),
    ("https://huggingface.co/ada/outline/commit/abc", "unsupported '/commit/' route"),
    ("ftp://example.org/a.gguf", "ftp:// is no scheme"),
    ("file:///etc/passwd", "file:// is no scheme"),
    ("http://example.org/a.gguf", "must be named with https"),
    ("https://example.org", "names no file"),
    ("https://example.org/", "names no file"),
    ("https:///a.gguf", "names no file"),
    ("https://ada:secret@example.org/a.gguf", "user name or password"),
    ("https://example.org:port/a.gguf", "is not an address"),
    ("https://[::1/a.gguf", "is not an address"),
]
"""What a person may type, on a computer where it names no file, and what it means: a Source, or the words that it is refused with."""


@pytest.mark.parametrize(("text", "meaning"), CASES)
def test_what_is_typed_and_what_it_means(text: str, meaning: Source | str) -> None:
    if isinstance(meaning, PathSource):
        meaning = PathSource(meaning.path.expanduser().absolute())
    if not isinstance(meaning, str):
        assert parse_source(text, endpoint=PUBLIC) == meaning
        return
    with pytest.raises(InvalidSource, match=meaning) as caught:
        parse_source(text, endpoint=PUBLIC)
    assert "\n" not in caught.value.message
    if meaning not in ("user name or password", "must not hold a secret"):
        assert "Accepted: " in caught.value.message  # the way out: what would be taken


@pytest.mark.parametrize("endpoint", [MIRROR, f"{MIRROR}/"])
@pytest.mark.parametrize(
    "text", [f"{MIRROR}/ada/outline/blob/main/a.gguf", "127.0.0.1:8765/ada/outline/blob/main/a.gguf"]
)
def test_the_configured_hub_is_the_hub_too(text: str, endpoint: str) -> None:
    assert parse_source(text, endpoint=endpoint) == HubSource("ada/outline", "main", "a.gguf")


def test_a_hub_below_a_path() -> None:
    assert parse_source(f"{MIRROR}/hf/ada/outline", endpoint=f"{MIRROR}/hf") == HubSource("ada/outline")


def test_another_port_of_the_configured_hub_is_another_server() -> None:
    url = "http://127.0.0.1:8766/ada/outline"
    assert parse_source(url, endpoint=MIRROR) == UrlSource(url)


@pytest.mark.parametrize(
    ("url", "recorded"),
    [
        ("https://x.org/a.gguf", "https://x.org/a.gguf"),
        ("https://x.org/a.gguf?type=Model&X-Amz-Signature=1&X-Amz-Date=2", "https://x.org/a.gguf?type=Model"),
        ("https://x.org/a.gguf?Expires=1&Signature=2&Key-Pair-Id=3&Policy=4", "https://x.org/a.gguf"),
        ("https://x.org/a.gguf?sv=1&se=2&sr=b&sp=r&sig=3", "https://x.org/a.gguf"),
    ],
)
def test_what_signs_an_address_is_not_recorded(url: str, recorded: str) -> None:
    assert without_signature(url) == recorded


class TestPaths:
    @pytest.mark.parametrize("text", ["ada/outline", "outline", "loras/x.safetensors", "a/b/c/d"])
    def test_what_exists_is_a_path(self, tmp_path: Path, text: str) -> None:
        (tmp_path / text).mkdir(parents=True)
        assert parse_source(text, endpoint=PUBLIC) == PathSource(tmp_path / text)

    def test_the_hub_is_still_named_with_its_scheme(self, tmp_path: Path) -> None:
        (tmp_path / "ada/outline").mkdir(parents=True)
        assert parse_source("hf://ada/outline", endpoint=PUBLIC) == HubSource("ada/outline")

    @pytest.mark.parametrize("text", ["loras/x.safetensors", "loras/x.SAFETENSORS", "x.gguf", "a/b/c.ckpt"])
    def test_a_weight_file_that_is_not_there_is_no_repository(self, text: str) -> None:
        with pytest.raises(InvalidSource, match=r"no file .* hf://OWNER/REPO/FILE"):
            parse_source(text, endpoint=PUBLIC)


NAMES = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True)
PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", categories=["L", "N", "P", "S"]), min_size=1, max_size=9
)
PATHS = st.lists(PARTS, max_size=3).map("/".join).filter(lambda p: not p or is_relative(p))


def is_relative(path: str) -> bool:
    try:
        return bool(relative_path(path))
    except ValueError:
        return False


@unhurried
@given(NAMES, NAMES, st.none() | PARTS | st.sampled_from(["refs/pr/12", "feature/x", COMMIT]), PATHS)
def test_the_canonical_form_parses_to_the_same(owner: str, name: str, revision: str | None, path: str) -> None:
    source = HubSource(f"{owner}/{name}", revision, path)
    assert parse_source(str(source), endpoint=PUBLIC) == source


@pytest.mark.parametrize(
    "text", ["~/x.gguf", "~nosuch/x", "./x.gguf", "../x", "x.gguf", "registry/../../etc/passwd", "here/there"]
)
def test_over_the_network_only_an_absolute_path_is_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "here" / "there").mkdir(parents=True)
    (tmp_path / "x.gguf").touch()
    try:
        assert parse_source(text, endpoint=PUBLIC, confined=True) == HubSource("here/there")
    except InvalidSource:
        assert text != "here/there"
    assert parse_source("/x/y", endpoint=PUBLIC, confined=True) == PathSource(Path("/x/y"))


@pytest.mark.parametrize("text", ["~nosuchuser/x", "a" * 300, "a/" * 1000])
def test_what_cannot_even_be_looked_up_is_no_source(text: str) -> None:
    with pytest.raises(InvalidSource):
        parse_source(text, endpoint=PUBLIC)


@pytest.mark.parametrize("text", ["https://example.org/a.gguf?x=1", "/models/a.gguf"])
def test_the_canonical_form_of_the_others_too(text: str) -> None:
    assert str(parse_source(text, endpoint=PUBLIC)) == text


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "C:a", "c:/a", "a\nb", "a\0"]
)
def test_paths_that_could_leave_a_folder(path: str) -> None:
    with pytest.raises(ValueError, match="not a plain relative path"):
        relative_path(path)


INNOCENT = ["Bild\u202f1.png", "水墨\u3000画.safetensors", "a\u00a0b", "a b", "👩\u200d🎨.safetensors", "a\ue000"]


@pytest.mark.parametrize("path", INNOCENT)
def test_names_that_people_and_their_systems_give(path: str) -> None:
    assert relative_path(path) == path
    source = HubSource("ada/outline", None, path)
    assert parse_source(str(source), endpoint=PUBLIC) == source
    assert parse_source(f"/models/{path}", endpoint=PUBLIC) == PathSource(Path("/models", path))


@pytest.mark.parametrize("character", ["\n", "\0", "\x7f", "\x85", "\ud800", "\u2028", "\u2029"])
def test_characters_that_no_path_has(character: str) -> None:
    with pytest.raises(ValueError, match="not a plain relative path"):
        relative_path(f"a{character}b")
    with pytest.raises(InvalidSource, match=r"control characters, or bytes that are not UTF-8.*Rename"):
        parse_source(f"ada/out{character}line", endpoint=PUBLIC)


def test_importing_the_parser_is_cheap() -> None:
    script = "import sys, registry.sources; print({'huggingface_hub', 'httpx', 'httpx2', 'torch'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert result.stdout.strip() == "set()"
