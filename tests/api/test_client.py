"""The Python client against a real service, and the command line, which answers the same with a service and by itself."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from api import records
from api.cli import main
from api.client import AdapterRequest, Client, GenerationRequest, ModelshelfError
from api.reading import plain, read
from registry import errors
from tests.api.openapi import document
from tests.conftest import STARTER
from tests.demo.strangers import sd15_lora, write
from tests.hub import Fault, LoopbackHub
from tests.service import environment, running_service

pytestmark = pytest.mark.slow

SCHEMAS = {
    "Borrowed": "BorrowedOut",
    "Model": "ModelOut",
    "Digest": "DigestOut",
    "Source": "SourceOut",
    "File": "FileOut",
    "Family": "FamilyOut",
    "Fit": "FitOut",
    "Probe": "ProbeOut",
    "Install": "InstallOut",
    "Scan": "ScanOut",
    "Skip": "SkipOut",
    "Finding": "FindingOut",
    "Task": "TaskOut",
    "Duplicate": "DuplicateOut",
    "Waste": "WasteOut",
    "Removed": "RemovedOut",
    "Check": "CheckOut",
    "Token": "TokenOut",
    "Plan": "PlanOut",
    "Scheduler": "SchedulerOut",
    "Picture": "PictureOut",
    "Generation": "GenerationOut",
    "GenerationJob": "GenerationJobOut",
    "Tier": "TierOut",
    "Resident": "ResidentOut",
    "Residency": "ResidencyOut",
}
"""Record -> schema, where the names differ."""
OPENAI = {"object", "created", "owned_by"}  # in an answer for clients of OpenAI's, who find nothing else there
NO_SCHEMA = {"Event"}  # of an event stream


class Shelf(NamedTuple):
    client: Client
    hub: LoopbackHub
    root: Path
    env: dict[str, str]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("shelf")
    write(folder / "hub/somebody/sd15/sd15.safetensors", sd15_lora())
    write(folder / "hub/somebody/slow/slow.safetensors", sd15_lora(rank=64))
    with (
        LoopbackHub(folder / "hub") as hub,
        running_service(folder / "root", hub.endpoint) as http,
        Client(str(http.base_url)) as client,
    ):
        assert [client.finish_install(i.id).name for i in client.submit_starter()] == [
            "starter-base",
            "starter-outline-lora",
            "starter-heart",
            "starter-lcm-lora",
        ]
        yield Shelf(client, hub, folder / "root", environment(folder / "root", hub.endpoint))


def test_records_have_the_fields_of_the_schemas() -> None:
    """Of a Problem only what is not about HTTP: an install's error has no status of its own."""
    schemas = document()["components"]["schemas"]
    found = {name: record for name, record in vars(records).items() if is_dataclass(record)}
    for name in found.keys() - NO_SCHEMA:
        ours = {field.name for field in fields(found[name])}
        theirs = set(schemas[SCHEMAS.get(name, name)]["properties"])
        assert ours == theirs - OPENAI if name != "Problem" else ours < theirs, name


def test_models_are_read_found_edited_and_removed(shelf: Shelf) -> None:
    client = shelf.client
    names = [m.name for m in client.models(page=1, sort="-size")]
    assert len(names) == 4
    assert names[0] == "starter-base"
    outline = client.model("starter-outline-lora")
    assert (outline.weight and outline.weight.value, outline.report["outcome"]) == (0.75, "identified")
    assert client.edit(outline.id, weight=0.6, tags=["line"]).overrides == {"weight": 0.6, "tags": ["line"]}
    assert [m.id for m in client.models(tag="line")] == [outline.id]
    assert client.edit(outline.id, weight=None, tags=None).overrides == {}
    assert {f.model.name for f in client.compatible_loras("starter-base")} >= {"starter-heart", "starter-lcm-lora"}
    assert [f.model.name for f in client.compatible_checkpoints(outline.id)] == ["starter-base"]
    assert client.families()[0].kinds["checkpoint"] == 1
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, "PNG")
    assert client.set_preview(outline.id, buffer.getvalue()).overrides["preview"]
    assert Image.open(io.BytesIO(client.preview(outline.id))).size == (8, 8)
    assert "preview" not in client.remove_preview(outline.id).overrides

    probed = client.probe("somebody/sd15")
    assert (probed.kind, probed.refusal, [f.fits for f in probed.checkpoints]) == ("lora", None, [False])
    model = client.install("somebody/sd15")
    file = shelf.root / model.path
    client.delete(model.id, files=True)
    assert not file.exists()
    with pytest.raises(errors.ModelNotFound):
        client.model(model.id)


def test_errors_are_those_of_the_registry_by_their_code(shelf: Shelf) -> None:
    with pytest.raises(errors.RepositoryNotFound):
        shelf.client.install("somebody/missing")
    with pytest.raises(errors.InvalidRequest, match="weight"):
        shelf.client.edit("starter-heart", weight=99)
    with pytest.raises(errors.ServiceUnreachable):
        Client("http://127.0.0.1:9").families()
    newer = errors.recreate("not_known_yet", "Something new.", {"n": 1})
    assert (type(newer), newer.code, newer.detail) == (ModelshelfError, "not_known_yet", {"n": 1})


def test_an_install_is_followed_paused_and_cancelled(shelf: Shelf) -> None:
    client = shelf.client
    fault = shelf.hub.faults["somebody/slow/slow.safetensors"] = Fault(bytes_per_second=300_000)
    install = client.submit_install("somebody/slow")
    seen: list[str] = []
    for each in client.install_events(install.id):
        seen.append(each.state)
        if each.bytes_done and each.state == "downloading":
            client.order_install(install.id, "pause")
        if each.state == "paused":
            break
    assert seen[-2:] == ["downloading", "paused"]
    client.order_install(install.id, "resume")

    def cancel(now: records.Install) -> None:
        if now.state == "downloading":
            client.order_install(now.id, "cancel")

    with pytest.raises(errors.Cancelled):
        client.finish_install(install.id, cancel)
    fault.bytes_per_second = None
    client.order_install(install.id, "retry")
    model = client.finish_install(install.id)
    assert client.get_install(install.id).model_id == model.id
    client.delete(model.id, files=True)
    client.discard_install(install.id)
    assert install.id not in {i.id for i in client.installs()}


def test_all_installs_are_read_however_long_a_page_is(shelf: Shelf) -> None:
    whole = [install.id for install in shelf.client.installs()]
    assert len(whole) > 2
    assert [install.id for install in shelf.client.installs(page=2)] == whole


def test_a_generation_is_planned_followed_and_comes_with_its_pictures(shelf: Shelf) -> None:
    client = shelf.client
    request = GenerationRequest(
        "starter-base",
        "a red circle",
        loras=(AdapterRequest("starter-lcm-lora"), AdapterRequest("starter-heart", 0.5)),
        seed=4,
    )
    preview = client.plan(request)
    assert (preview.plan.scheduler.value, preview.plan.scheduler.origin) == ("lcm", "recommended")
    seen = []
    made = client.generate(request, seen.append)
    assert {"queued", "running", "step", "succeeded"} <= {event.name for event in seen}
    assert [event.number for event in seen] == sorted(event.number for event in seen)
    assert [lora.weight.value for lora in made.plan.loras] == [1.0, 0.5]
    assert Image.open(io.BytesIO(made.images[0].png)).size == (64, 64)
    assert client.get_generation(made.id).state == "succeeded"
    assert {m.name for m in client.residency().models} >= {"starter-base", "starter-lcm-lora"}
    assert client.evict("starter-lcm-lora")
    with pytest.raises(errors.InvalidRequest):
        client.generate(GenerationRequest("starter-base", "x", steps=999))

    def stop(event: Any) -> None:
        if event.name == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.generate(GenerationRequest("starter-base", "x", steps=150, n=16), stop)
    newest = client.generations()[0]
    list(client.generation_events(newest.id))
    assert client.get_generation(newest.id).state == "cancelled"


def test_json_is_written_as_it_was_read(shelf: Shelf) -> None:
    http = shelf.client._http
    for path in ("/v1/models/starter-base", "/v1/residency"):
        body = http.get(shelf.client.url + path).json()
        record = records.ModelDetail if "models/" in path else records.Residency
        assert plain(read(record, body)) == {name: value for name, value in body.items() if name not in OPENAI}


# -- the command line, both ways
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs it in this process, which saves its start; returns exit status, standard output and error."""
    for name, value in shelf.env.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["modelshelf", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), out, err

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("list", "--json", "--kind", "lora", "--sort", "-size"),
        ("list", "--search", "no such thing"),
        ("show", "starter-lcm-lora", "--json"),
        ("show", "nothing"),
        ("compatible", "starter-base", "--all"),
        ("compatible", "starter-heart", "--json"),
        ("installs", "list"),
        ("verify",),
        ("verify", "nothing"),
        ("update", "starter-heart"),
        ("set", "starter-heart", "--weight", "0.8", "--tag", "a", "--notes", "n"),
        ("set", "starter-heart", "--reset"),
        ("set", "starter-heart", "--weight", "99"),
        ("install", "somebody/missing"),
        ("delete", "starter-heart"),
        ("generate", "starter-base", "x", "--steps", "999"),
    ],
    ids=" ".join,
)
def test_a_command_answers_the_same_with_a_service_and_by_itself(
    shelf: Shelf, command: Command, words: tuple[str, ...]
) -> None:
    alone = command(*words)
    served = command("--server", shelf.client.url, *words)
    if words[0] == "delete":  # shows where the file is, which a service tells relative to its root
        alone = (alone[0], alone[1].replace(f"{shelf.root}/", ""), alone[2])
        alone, served = ((code, " ".join(out.split()), err) for code, out, err in (alone, served))
    assert served == alone
    assert any(alone[1:])


def test_pictures_are_the_same_too(shelf: Shelf, command: Command, tmp_path: Path) -> None:
    words = ("generate", "starter-base", "a red circle", "--lora", "starter-lcm-lora", "--seed", "4", "-o")
    served = command("--server", shelf.client.url, *words, str(tmp_path / "served"))
    alone = command(*words, str(tmp_path / "alone"))
    assert served[0] == alone[0] == 0
    assert alone[1].replace("/alone/", "/served/") == served[1]
    name = "starter-base-4.png"
    assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "served" / name).read_bytes()


def test_several_sources_are_installed_at_once_and_one_that_fails_leaves_the_others_alone(
    shelf: Shelf, command: Command
) -> None:
    for server in ((), ("--server", shelf.client.url)):
        code, out, err = command(*server, "install", "somebody/sd15", "somebody/missing", "somebody/slow")
        assert code == 1
        assert {line.split()[1] for line in out.splitlines()} == {"sd15", "slow"}
        assert err.endswith("[repository_not_found]\n")
        code, out, _ = command(*server, "delete", "sd15", "slow", "--yes")
        assert (code, out.count("file removed")) == (0, 2)
        assert [m.name for m in shelf.client.models(q="sd15")] == []


def test_a_database_is_looked_after_where_it_is(shelf: Shelf, command: Command, tmp_path: Path) -> None:
    for words in (("status",), ("upgrade",), ("backup", str(tmp_path / "copy.db"))):
        code, out, err = command("--server", shelf.client.url, "db", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"for that of {shelf.client.url}, run it there" in err
        assert err.endswith("[local_only]\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_twice_is_told_both_ways(shelf: Shelf, command: Command) -> None:
    folder = shelf.root / "twice"
    for name in ("one", "two"):
        write(folder / f"{name}.safetensors", sd15_lora(rank=5))
    assert "2 added" in command("--server", shelf.client.url, "scan", str(folder), "--hash")[1]
    assert shelf.client.duplicates().unhashed == 0, "by the command or, where that came first, by the service itself"
    words = ("duplicates", "--json")
    served, alone = command("--server", shelf.client.url, *words), command(*words)
    assert served == alone
    [group] = json.loads(served[1])
    assert (group["same"], [model["name"] for model in group["models"]]) == ("file", ["one", "two"])
    assert command("--server", shelf.client.url, "duplicates")[1].count("one.safetensors") == 1
    command("delete", "one", "two", "--yes")
    assert command("--server", shelf.client.url, "duplicates") == (0, "", "Nothing is there twice.\n")


def test_what_belongs_to_nothing_is_shown_and_then_removed_both_ways(shelf: Shelf, command: Command) -> None:
    shelf.client.remove_waste()  # what other tests have left
    for server in (("--server", shelf.client.url), ()):
        model = shelf.client.install("somebody/sd15")
        shelf.client.delete(model.id)
        assert [file.path for file in shelf.client.waste().files] == [model.path]
        code, shown, _ = command(*server, "gc")
        assert (code, model.path in shown, "nothing is removed" in shown) == (0, True, True)
        assert (shelf.root / model.path).exists()
        code, out, _ = command(*server, "gc", "--yes", "--json")
        assert code == 0
        assert json.loads(out)["removed"]["count"] == 1
        assert not (shelf.root / model.path).exists()
    assert shelf.client.remove_waste() == records.Removed(0, 0, 0)


def test_pages_are_read_to_the_last(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.client.remove_waste()
    monkeypatch.setattr("api.client.PAGE", 1)
    kept = [shelf.client.install(source) for source in ("somebody/sd15", "somebody/slow")]
    for model in kept:
        shelf.client.delete(model.id)
    waste = shelf.client.waste()
    assert sorted(file.path for file in waste.files) == sorted(model.path for model in kept)
    assert (waste.count, waste.size, waste.next) == (2, sum(model.size for model in kept), None)
    shelf.client.remove_waste()


def test_a_doctor_looks_at_the_service_s_machine(shelf: Shelf, command: Command, monkeypatch: Any) -> None:
    monkeypatch.setenv("MODELSHELF_ROOT", str(shelf.root / "not-the-service-s"))
    code, out, _ = command("--server", shelf.client.url, "doctor", "--json")
    found = {check["name"]: check for check in json.loads(out)}
    assert (code, found["root"]["found"], found["models"]["verdict"]) == (0, str(shelf.root), "ok")
    assert {"modelshelf", "free space", "database", "hub", "device"} <= found.keys()
    assert "service" not in found, "it is the one that answers"
    code, _, err = command("--server", "http://127.0.0.1:9", "doctor")
    assert (code, err.endswith("[service_unreachable]\n")) == (1, True)


def test_tokens_are_made_and_revoked_from_elsewhere(
    shelf: Shelf, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ("--server", shelf.client.url)
    secret = command(*server, "token", "create", "deputy", "--scope", "manage", "--scope", "read")[1].strip()
    monkeypatch.setenv("MODELSHELF_TOKEN", secret)
    reader = command(*server, "token", "create", "reader", "--scope", "read")[1].strip()
    assert command(*server, "token", "create", "all")[2].endswith("[insufficient_scope]\n"), "more than a deputy has"
    served = command(*server, "token", "list")
    assert served == command("token", "list")
    assert ("deputy" in served[1], reader in served[1]) == (True, False)
    monkeypatch.setenv("MODELSHELF_TOKEN", reader)
    assert command(*server, "token", "list")[2].endswith("[insufficient_scope]\n")
    assert command(*server, "list")[0] == 0
    monkeypatch.setenv("MODELSHELF_TOKEN", secret)
    assert command(*server, "token", "revoke", "reader")[0] == 0
    assert command(*server, "token", "revoke", "reader")[2].endswith("[token_not_found]\n")
    monkeypatch.setenv("MODELSHELF_TOKEN", reader)
    assert command(*server, "list")[2].endswith("[token_required]\n")
    monkeypatch.setenv("MODELSHELF_TOKEN", secret)
    assert command(*server, "token", "revoke", "deputy")[0] == 0, "its own, which is the last thing that it opens"


def test_a_folder_is_scanned_in_place_both_ways(shelf: Shelf, command: Command) -> None:
    folder = shelf.root / "mine"
    write(folder / "own.safetensors", sd15_lora(rank=3))
    for server in (("--server", shelf.client.url), ()):
        code, out, _ = command(*server, "scan", str(folder), "--json")
        assert code == 0
        assert json.loads(out)[str(folder)]["added"] == 1
        counts = [command(*server, "scan", str(folder), "--json", *more)[1] for more in ((), ("--afresh",))]
        assert [list(json.loads(out)[str(folder)].values())[:3] for out in counts] == [[1, 0, 0], [0, 0, 1]]
        assert command(*server, "delete", "own", "--yes")[1].endswith("own  file stays\n")
    assert (folder / "own.safetensors").exists()
    assert STARTER.exists()
