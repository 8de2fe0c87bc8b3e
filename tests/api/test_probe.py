"""`modelshelf probe`: its JSON, its exit status, its words, and its dumps."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

from api.cli import main
from probes import probe
from tests.conftest import STARTER
from tests.demo.strangers import safetensors, sd15_lora, write
from tests.hub import LoopbackHub
from tests.loopback import NETWORK
from tests.probes import headers
from tests.service import MODELSHELF, environment

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing may be asked of it
Run = Callable[..., subprocess.CompletedProcess[str]]
CONTRACT = [
    "source", "outcome", "kind", "family", "variant", "prediction_type", "format", "rank", "candidates", "traits", "evidence", "reason",
]  # fmt: skip
GOOD, OPEN, UNKNOWN, PICKLE, PAGE, MISSING = (
    "good.safetensors",
    "open.json",
    "unknown.json",
    "old.ckpt",
    "page.safetensors",
    "./gone.gguf",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files for every outcome."""
    write(tmp_path / GOOD, sd15_lora())
    write(tmp_path / PAGE, b"<!DOCTYPE html><html></html>")
    write(tmp_path / PICKLE, pickle.dumps({"state_dict": list(range(1000))}))
    for name, fixture in ((OPEN, "lora-clip-l-only"), (UNKNOWN, "lora-allegro")):
        write(tmp_path / name, gzip.decompress((headers.FOLDER / f"{fixture}.json.gz").read_bytes()))
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The console script's entry point, in this process: starting one for each of these words takes longer than they do."""

    def command(*words: str, endpoint: str = NOWHERE) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MODELSHELF_ROOT", str(folder / "root"))
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("MODELSHELF_ALLOWED_NETWORKS", NETWORK)
        monkeypatch.setattr(sys, "argv", ["modelshelf", "probe", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), *capsys.readouterr())

    return command


def on_a_terminal(columns: int, *words: str, cwd: Path, **more: str) -> str:
    """What the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(cwd / "root", NOWHERE, TERM="xterm-256color", **more)
    env.pop("COLUMNS", None)
    with subprocess.Popen(
        [str(MODELSHELF), "probe", *words], env=env, cwd=cwd, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux' way to say that the other end is closed
                break
            if not piece:
                break
            written += piece
        process.wait(60)
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def without_style(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- JSON ---


def test_one_object_a_line_and_input_with_the_keys_of_the_contract_first(run: Run) -> None:
    done = run(GOOD, OPEN, UNKNOWN, PICKLE, PAGE, MISSING, "--json")
    assert done.returncode == 2
    assert done.stderr == ""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["source"] for a in answers] == [GOOD, OPEN, UNKNOWN, PICKLE, PAGE, MISSING]
    assert [a["outcome"] for a in answers] == ["identified", "ambiguous", "unknown", "unusable", "unusable", "unusable"]
    assert [a["error"] for a in answers] == [None, None, None, None, "html_page", "not_found"]
    for answer in answers:
        assert list(answer)[:12] == CONTRACT
        assert set(answer) - {*CONTRACT} == {"default_prediction_type", "layout", "tags", "choices", "error"}
        assert answer["reason"]
        assert all(list(e) == ["rule", "ok", "key", "expected", "seen"] for e in answer["evidence"])
    good = answers[0]
    assert (good["kind"], good["family"], good["rank"], good["format"]) == ("lora", "sd-1", 4, "safetensors")


def test_with_explain_the_object_has_what_matched_and_what_nearly_did(run: Run) -> None:
    dump = str(headers.FOLDER / "unet-ssd-1b-ldm.json.gz")
    explanation = json.loads(run(dump, "--json", "--explain").stdout)["explanation"]
    assert set(explanation) == {"matched", "near", "overruled"}
    assert [like["family"] for like in explanation["matched"]] == ["ssd-1b"]
    sdxl = next(like for like in explanation["near"] if like["family"] == "sdxl")
    assert sdxl["refuted"][0]["shared"] == ["ssd-1b"]


# --- exit status ---


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([GOOD], 0),
        ([GOOD, GOOD], 0),
        ([OPEN], 3),
        ([UNKNOWN], 3),
        ([PICKLE], 3),
        ([GOOD, UNKNOWN], 3),
        ([PAGE], 2),
        ([MISSING], 2),
        ([PAGE, UNKNOWN, GOOD], 2),
        ([UNKNOWN, GOOD, PAGE], 2),
        (["not a source", GOOD], 2),
        (["."], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_status(run: Run, words: list[str], status: int) -> None:
    assert run(*words).returncode == status


def test_what_cannot_be_read_is_a_line_of_errors_and_hides_nothing(run: Run) -> None:
    done = run(PAGE, GOOD)
    assert (
        done.stdout
        == f"{GOOD}: sd-1 lora, kohya names, rank 4, safetensors: cross-attention takes in text of width 768.\n"
    )
    assert done.stderr.startswith(f"modelshelf: {PAGE}: This is a web page")
    assert done.stderr.endswith(" [html_page]\n")
    assert done.stderr.count("\n") == 1


def test_a_folder_is_looked_through_and_nothing_is_written(run: Run, folder: Path) -> None:
    done = run(".", "--json")
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [GOOD, PICKLE, PAGE]
    assert not (folder / "root").exists()


def test_a_repository(run: Run, tmp_path: Path) -> None:
    with LoopbackHub(STARTER) as hub:
        done = run(
            "https://huggingface.co/modelshelf/starter-lcm-lora", "somebody/missing", "--json", endpoint=hub.endpoint
        )
    lcm, missing = map(json.loads, done.stdout.splitlines())
    assert (lcm["kind"], lcm["family"]) == ("lcm_lora", "sd-1")
    assert (missing["outcome"], missing["error"], done.returncode) == ("unusable", "repository_not_found", 2)


@pytest.mark.parametrize("command", [[str(MODELSHELF)], [sys.executable, "-m", "api.cli"]], ids=["script", "module"])
def test_as_a_process(folder: Path, command: list[str]) -> None:
    env = environment(folder / "root", NOWHERE)
    done = subprocess.run(
        [*command, "probe", GOOD, UNKNOWN], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [GOOD, UNKNOWN]


# --- words ---


@pytest.mark.parametrize("how", [["--json"], [], ["--explain"], ["--dump-header", "-"]])
@pytest.mark.parametrize("name", ["Gemälde.safetensors".encode(), "絵.safetensors".encode(), b"caf\xe9.safetensors"])
def test_where_nothing_but_ascii_can_be_shown(folder: Path, name: bytes, how: list[str]) -> None:
    write(folder / os.fsdecode(name), sd15_lora())
    env = environment(folder / "root", NOWHERE, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    done = subprocess.run(
        [MODELSHELF, "probe", name, *how], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = done.stderr if "-" in how else done.stdout
    if "--json" in how:
        assert json.loads(shown)["source"] == os.fsdecode(name)
    else:
        assert "?" in shown.split(".safetensors")[0]
        assert "sd-1" in shown


def test_explain_says_why_and_why_not(run: Run) -> None:
    text = run(str(headers.FOLDER / "unet-ssd-1b-ldm.json.gz"), "--explain").stdout
    assert "    + input_blocks.7.1.transformer_blocks has 4 blocks\n" in text
    assert re.search(
        r"~ sdxl checkpoint: \S+attn2\.to_k\.weight is 2048 wide, but "
        r"input_blocks\.7\.1\.transformer_blocks has 4 blocks, not 10, as in ssd-1b; "
        r"middle_block\.1\.transformer_blocks has no blocks, not 10, as in koala, segmind-vega and ssd-1b\n",
        text,
    )
    assert "usual for the family: epsilon" in text
    text = run(str(headers.FOLDER / "single-file-sd-2.json.gz"), "--explain").stdout
    assert "  what it predicts, the file does not tell\n" in text


def test_explain_says_of_no_near_miss_that_all_of_it_is_there(run: Run) -> None:
    text = run(str(headers.FOLDER / "lora-flux-kohya.json.gz"), "--explain").stdout
    assert (
        "~ hunyuan-image lora: all the names that it asks for are there, but double_blocks_0_img_attn_proj is "
        "3072 -> 3072, not 3584 -> 3584\n"
    ) in text
    assert "~ chroma lora: 87% of what it asks for is there, but " in text


def test_explain_lists_the_candidates_of_an_open_answer(run: Run) -> None:
    text = run(OPEN, "--explain").stdout
    for name in ("flux-1 lora", "sd-3 lora", "sdxl lora"):
        assert f"  Fits {name}\n" in text


def test_explain_names_a_name_that_was_overruled(run: Run, folder: Path) -> None:
    (folder / GOOD).rename(folder / "sdxl.safetensors")
    assert (
        "    - file name says “sdxl.safetensors”, but the shapes are sd-1's\n"
        in run("sdxl.safetensors", "--explain").stdout
    )


def test_to_a_pipe_lines_are_whole_and_plain(run: Run) -> None:
    text = run(OPEN, GOOD, "--explain").stdout
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) > 120
    assert not re.search(r" +$", text, re.MULTILINE)


@pytest.mark.parametrize("columns", [100, 40, 12])
def test_on_a_terminal_nothing_is_lost_whatever_its_width(folder: Path, columns: int) -> None:
    text = without_style(on_a_terminal(columns, OPEN, "--explain", cwd=folder))
    assert max(map(len, text.splitlines())) <= max(columns, 20)
    wide = without_style(on_a_terminal(1000, OPEN, "--explain", cwd=folder))
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", wide)


def test_colour_on_a_terminal_unless_it_is_forbidden(folder: Path) -> None:
    assert "\x1b[32m" in on_a_terminal(100, GOOD, "--explain", cwd=folder)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", on_a_terminal(100, GOOD, "--explain", cwd=folder, NO_COLOR="1"))


def test_what_strangers_wrote_does_not_steer_the_terminal(run: Run, folder: Path) -> None:
    name = "\x1b]0;owned\x07[red]x\n.safetensors"
    write(folder / name, safetensors({"x\x1b[31m.weight": [3]}, {}))
    done = run(str(folder / name), "--explain")
    assert "[invalid_source]" in done.stderr  # such a name is refused where a user writes it
    folder_of_it = folder / "strange"
    folder_of_it.mkdir()
    (folder / name).rename(folder_of_it / name)
    for words in (["strange"], ["strange", "--explain"]):
        done = run(*words)
        assert done.returncode == 3
        assert not {c for c in done.stdout + done.stderr if not c.isprintable()} - {"\n"}
        assert "[red]x" in done.stdout


def test_help_says_what_is_an_input_and_what_the_exit_status_means(run: Run) -> None:
    text = " ".join(run("--help").stdout.replace("│", " ").split())
    for said in ("each model file in it", "Exit status: 0", "--dump-header", "--keep-private", "A dump can be probed"):
        assert said in text


# --- dumps ---


@pytest.mark.parametrize("name", ["header.json", "header.json.gz"])
def test_a_dump_can_be_probed_in_place_of_the_model(run: Run, folder: Path, name: str) -> None:
    done = run(GOOD, "--dump-header", name)
    assert done.returncode == 0, done.stderr
    assert probe(folder / name).family == "sd-1"
    before, after = (json.loads(run(source, "--json").stdout) for source in (GOOD, name))
    assert before | {"source": name} == after


def test_a_dump_leaves_out_what_is_private_unless_it_is_to_be_kept(run: Run, folder: Path) -> None:
    metadata = {"ss_output_name": "zeldas_wedding", "ss_base_model_version": "sd_v1"}
    write(
        folder / "zelda.safetensors",
        safetensors({"lora_unet_x.lora_down.weight": [4, 8], "lora_unet_x.lora_up.weight": [8, 4]}, metadata),
    )
    assert run("zelda.safetensors", "--dump-header", "a.json").returncode == 3  # unknown, as it is, and dumped
    assert run("zelda.safetensors", "--dump-header", "b.json", "--keep-private").returncode == 3
    assert "zelda" not in (folder / "a.json").read_text()
    kept = json.loads((folder / "b.json").read_text())
    assert kept["metadata"] == metadata
    assert kept["hints"]["filename"] == "zelda.safetensors"
    assert kept["expect"] == {"outcome": "unknown"}
    assert kept["made_by"].startswith("modelshelf ")


def test_a_dump_to_standard_output_has_it_for_itself(run: Run) -> None:
    done = run(GOOD, "--dump-header", "-")
    assert json.loads(done.stdout)["expect"]["family"] == "sd-1"
    assert done.stderr.startswith(f"{GOOD}: sd-1 lora")


def test_of_a_repository_the_header_can_be_dumped_too(run: Run, folder: Path) -> None:
    with LoopbackHub(STARTER) as hub:
        done = run("modelshelf/starter-base", "--dump-header", "base.json.gz", endpoint=hub.endpoint)
    assert done.returncode == 0, done.stderr
    report = probe(folder / "base.json.gz")
    assert (report.kind, report.family, report.format) == ("checkpoint", "sd-1", "diffusers folder")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([GOOD, "--dump-header", PAGE], 1, "overwrites nothing"),
        ([GOOD, UNKNOWN, "--dump-header", "x.json"], 1, "one input"),
        ([".", "--dump-header", "x.json"], 1, "one input"),
        ([PICKLE, "--dump-header", "x.json"], 2, "[pickle]"),
        ([PAGE, "--dump-header", "x.json"], 2, "[html_page]"),
        ([GOOD, "--dump-header", "no/such/folder/x.json"], 1, "No such file"),
    ],
)
def test_what_cannot_be_dumped(run: Run, folder: Path, words: list[str], status: int, said: str) -> None:
    before = (folder / PAGE).read_bytes()
    done = run(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "x.json").exists()
    assert (folder / PAGE).read_bytes() == before
