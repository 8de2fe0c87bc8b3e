"""A folder tree of models: all of it found, each file read once, and nothing in it stops the rest."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from probes import Found, Hints, Kind, Outcome, Report, Stamp, UnreadableModel, dump_header, pack_dump, scan_folder
from tests.probes import headers

LORA, UNET = headers.load("lora-sdxl-slider"), headers.load("unet-sd-1-miniature-diffusers")


def put(path: Path, fixture: headers.Fixture = LORA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return headers.write_sparse(path, fixture.tensors, fixture.metadata)


def scan(root: Path, known: dict[str, tuple[Stamp, Report]] | None = None) -> dict[str, Found]:
    """By path relative to the root; no path comes twice."""
    found = list(scan_folder(root, known))
    by_path = {Path(each.path).relative_to(root).as_posix(): each for each in found}
    assert len(by_path) == len(found)
    return by_path


def memory_of(found: dict[str, Found]) -> dict[str, tuple[Stamp, Report]]:
    return {each.path: (each.stamp, each.report) for each in found.values() if each.stamp is not None}


def code(found: Found) -> str | None:
    return found.report.evidence[0].seen


def test_every_model_is_found_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a/z.safetensors", "a/b/SHOUTED.SAFETENSORS", "c/a.safetensors"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not looked at")
    put(tmp_path / ".cache" / "hidden.safetensors")
    found = scan(tmp_path)
    assert list(found) == ["b.safetensors", "a/z.safetensors", "a/b/SHOUTED.SAFETENSORS", "c/a.safetensors"]
    assert {(each.report.family, each.report.kind, each.fresh) for each in found.values()} == {
        ("sdxl", Kind.LORA, True)
    }
    assert found["b.safetensors"].report.source == str(tmp_path / "b.safetensors")


def test_what_has_not_changed_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "lora.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"")
    first = scan(tmp_path)
    opened: list[object] = []
    monkeypatch.setattr("probes.scan.probe", lambda *_: opened.append(_))
    second = scan(tmp_path, memory_of(first))
    assert opened == []
    assert [each.fresh for each in second.values()] == [False, False]
    assert {name: each[:3] for name, each in second.items()} == {name: each[:3] for name, each in first.items()}


@pytest.mark.parametrize("change", ["replaced", "rewritten", "truncated"])
def test_what_has_changed_is_read_again(change: str, tmp_path: Path) -> None:
    path = put(tmp_path / "model.safetensors")
    before = scan(tmp_path)
    stat = path.stat()
    if change == "replaced":  # by a rename, with the old time and whatever size: the inode tells
        other = put(tmp_path / "other", UNET)
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.rename(path)
    elif change == "rewritten":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        os.truncate(path, stat.st_size - 1)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = scan(tmp_path, memory_of(before))["model.safetensors"]
    assert after.fresh
    assert after.stamp != before["model.safetensors"].stamp


def test_a_report_of_another_stamp_is_not_taken(tmp_path: Path) -> None:
    path = put(tmp_path / "model.safetensors")
    wrong = {str(path): (Stamp(1, 2, 3), Report(Outcome.UNKNOWN, "of an earlier file"))}
    assert scan(tmp_path, wrong)["model.safetensors"].report.family == "sdxl"


def test_links_are_followed_and_rings_are_not(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    put(root / "real" / "lora.safetensors")
    put(elsewhere / "linked.safetensors")
    (root / "a").symlink_to(elsewhere)
    (root / "b").symlink_to(root / "real")  # its real place is under the root, so that is where its files are
    (root / "real" / "ring").symlink_to(root)
    (root / "file.safetensors").symlink_to(elsewhere / "linked.safetensors")
    (root / "itself.safetensors").symlink_to(root / "itself.safetensors")
    (root / "gone.safetensors").symlink_to(root / "nowhere")
    found = scan(root)
    good = ["file.safetensors", "real/lora.safetensors", "a/linked.safetensors"]
    bad = ["gone.safetensors", "itself.safetensors"]
    assert sorted(found) == sorted(good + bad)
    assert [found[name].report.outcome for name in good] == [Outcome.IDENTIFIED] * 3
    assert [(found[name].report.outcome, code(found[name]), found[name].stamp) for name in bad] == [
        (Outcome.UNUSABLE, "not_readable", None)
    ] * 2


def test_what_is_no_model_is_reported_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_bytes(b"<!doctype html><title>Sign in</title>")
    (tmp_path / "cut.safetensors").write_bytes(headers.safetensors_bytes(LORA.tensors))
    (tmp_path / "dump.safetensors").write_bytes(pack_dump(dump_header(LORA.header)))
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9")
    os.mkfifo(tmp_path / "pipe.safetensors")
    put(tmp_path / "fine.safetensors")
    found = scan(tmp_path)
    refused = [name for name, each in found.items() if each.report.outcome is Outcome.UNUSABLE and each.report.evidence]
    assert {name: code(found[name]) for name in refused} == {
        "page.safetensors": "html_page",
        "cut.safetensors": "truncated",
        "dump.safetensors": "text_file",
        "pipe.safetensors": "not_a_file",
    }
    assert found["old.ckpt"].report.format == "pickle"
    assert found["fine.safetensors"].report.outcome is Outcome.IDENTIFIED
    assert all(each.stamp for each in found.values())


def test_what_may_not_be_read_is_reported_and_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by a patch, because tests may run as root, who is refused nothing."""
    put(tmp_path / "folder" / "inside.safetensors")
    put(tmp_path / "locked.safetensors")
    listed, opened = os.scandir, Path.open

    def scandir(path: str) -> object:
        if path.endswith("folder"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    def opening(path: Path, *how: object, **more: object) -> object:
        if path.name.startswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *how, **more)  # type: ignore[call-overload]

    monkeypatch.setattr("probes.scan.os.scandir", scandir)
    monkeypatch.setattr(Path, "open", opening)
    assert {name: (code(each), each.stamp) for name, each in scan(tmp_path).items()} == {
        "locked.safetensors": ("not_readable", None),
        "folder": ("not_readable", None),
    }


def test_a_file_that_goes_away_meanwhile_is_reported(tmp_path: Path) -> None:
    put(tmp_path / "a.safetensors")
    put(tmp_path / "b.safetensors")
    found = []
    for each in scan_folder(tmp_path):
        found.append(each)
        (tmp_path / "b.safetensors").unlink(missing_ok=True)
    assert [(Path(each.path).name, each.report.outcome) for each in found] == [
        ("a.safetensors", Outcome.IDENTIFIED),
        ("b.safetensors", Outcome.UNUSABLE),
    ]


def test_a_pipeline_is_one_model_and_what_lies_beside_its_index_another(tmp_path: Path) -> None:
    unet = headers.load("unet-sd-1-diffusers")
    weights = put(tmp_path / "pipe" / "unet" / "diffusion_pytorch_model.safetensors", unet)
    (tmp_path / "pipe" / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    put(tmp_path / "pipe" / "extra-lora.safetensors")
    first = scan(tmp_path)
    assert list(first) == ["pipe", "pipe/extra-lora.safetensors"]
    assert (first["pipe"].report.family, first["pipe"].report.format) == ("sd-1", "diffusers folder")
    assert not any(each.fresh for each in scan(tmp_path, memory_of(first)).values())
    weights.unlink()
    second = scan(tmp_path, memory_of(first))
    assert {name: (each.fresh, each.report.outcome) for name, each in second.items()} == {
        "pipe": (True, Outcome.UNUSABLE),
        "pipe/extra-lora.safetensors": (False, Outcome.IDENTIFIED),
    }


def test_shards_and_peft_adapters_are_one_model(tmp_path: Path) -> None:
    unet = headers.load("unet-sd-1-diffusers")
    names = list(unet.tensors)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = headers.Fixture({name: unet.tensors[name] for name in part}, {})
        put(tmp_path / "unet" / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors", shard)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    put(tmp_path / "peft" / "adapter_model.safetensors")
    (tmp_path / "peft" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    found = scan(tmp_path)
    assert {name: (each.report.family, each.report.kind) for name, each in found.items()} == {
        "peft": ("sdxl", Kind.LORA),
        "unet": ("sd-1", Kind.CHECKPOINT),
    }


def test_hints_are_the_file_name_unless_the_caller_knows_more(tmp_path: Path) -> None:
    lcm = headers.load("lcm-lora-sdxl")
    put(tmp_path / "lcm-lora-sdxl.safetensors", lcm)
    put(tmp_path / "nameless.safetensors", lcm)
    kinds = {name: each.report.kind for name, each in scan(tmp_path).items()}
    assert kinds == {"lcm-lora-sdxl.safetensors": Kind.LCM_LORA, "nameless.safetensors": None}
    told = scan_folder(tmp_path, hints=lambda path: Hints(card={"tags": ["lcm"]}))
    assert [each.report.kind for each in told] == [Kind.LCM_LORA] * 2


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    for root in (tmp_path / "gone", put(tmp_path / "file.safetensors")):
        with pytest.raises(UnreadableModel, match="no folder"):
            next(scan_folder(root))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    source = put(tmp_path / "0.safetensors")
    for number in range(1, 300):
        os.link(source, tmp_path / f"{number}.safetensors")
    peaks = []
    tracemalloc.start()
    try:
        for index, _ in enumerate(scan_folder(tmp_path)):
            if index in (150, 299):
                peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
