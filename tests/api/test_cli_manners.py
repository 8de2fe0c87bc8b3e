"""The command's manners: help, completion, a terminal's width, Ctrl-C, closed pipes, and no stack trace whatever is wrong."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fcntl import ioctl
from importlib.metadata import version
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import typer

from api.cli import app
from api.cli.output import size_text
from api.cli.remote import RemoteShelf
from registry.backends.schedulers import SCHEDULERS
from registry.errors import InstallNotFound
from registry.manager import Manager
from registry.settings import Settings
from tests.api.conftest import NOWHERE, Here
from tests.hub import Fault, LoopbackHub
from tests.service import MODELSHELF, environment, running_service


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With the starter in it."""
    manager = Manager(Settings(root=tmp_path / "root"))
    list(manager.install_starter())
    manager.close()
    return tmp_path / "root"


COMMANDS = (
    *(
        "install",
        "installs",
        "starter",
        "list",
        "show",
        "probe",
        "compatible",
        "set",
        "delete",
        "generate",
        "scan",
        "verify",
    ),
    *("duplicates", "gc", "update", "ps", "load", "evict", "token", "db", "doctor", "serve"),
)


def test_help_names_every_command_the_exit_statuses_and_first_steps(here: Here) -> None:
    code, out, _ = here("--help", COLUMNS="100")
    assert code == 0
    for command in COMMANDS:
        assert re.search(rf"^│ {command} ", out, re.MULTILINE), command
    assert "modelshelf starter install" in out
    assert "130 stopped by Ctrl-C" in out
    assert here("--version")[1] == f"modelshelf {version('modelshelf')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(here: Here, command: str) -> None:
    code, out, _ = here(command, "-h")
    assert code == 0
    assert f"modelshelf {command}" in out


def below(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a group, and every group in it, with the words that lead to it."""
    for name, child in getattr(command, "commands", {}).items():
        yield (*path, name), child
        yield from below(child, *path, name)


EVERY_COMMAND = dict(below(typer.main.get_command(app)))


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_an_example_that_it_takes_and_says_what_its_options_are(path: tuple[str, ...]) -> None:
    example = re.search(r"\n\nExample: `modelshelf ([^`]+)`$", EVERY_COMMAND[path].help)
    assert example
    words = shlex.split(example[1])
    assert tuple(words[: len(path)]) == path
    name, command = max((each for each in EVERY_COMMAND.items() if tuple(words[: len(each[0])]) == each[0]), key=len)
    command.make_context(" ".join(name), words[len(name) :]).close()
    assert [param.name for param in command.params if param.param_type_name == "option" and not param.help] == []


def test_the_help_names_every_scheduler() -> None:
    [option] = [param for param in EVERY_COMMAND["generate",].params if param.name == "scheduler"]
    named = set(re.findall(r"\w+", option.help))
    assert {re.sub("_(karras|trailing)$", "", name) for name in SCHEDULERS} <= named


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (6_938_040_682, "6.94 GB"),
        (1.2e12, "1.2 TB"),
        (2**63, "9.22 EB"),
    ],
)
def test_a_size_has_the_unit_that_its_rounded_number_belongs_to(nbytes: float, text: str) -> None:
    assert size_text(nbytes) == text


def test_the_shell_completes_commands_and_names(root: Path, tmp_path: Path) -> None:
    env = environment(root, NOWHERE) | {"_MODELSHELF_COMPLETE": "complete_bash", "COMP_CWORD": "2"}

    def complete(text: str) -> list[str]:
        words = {"COMP_WORDS": f"modelshelf {text}", "COMP_CWORD": str(len(text.split(" ")))}
        done = subprocess.run([MODELSHELF], env=env | words, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert complete("comp") == ["compatible"]
    assert complete("show starter-h") == ["starter-heart"]


def test_a_narrow_terminal_cuts_no_id_and_shows_no_colour_that_is_not_wanted(root: Path) -> None:
    for width in (100, 60, 40):
        lines = on_terminal(root, width, "list", NO_COLOR="1")
        assert max(map(len, lines)) <= width
        table = lines[: next((n for n, line in enumerate(lines) if line.startswith("Left out")), None)]
        assert all(re.match(r"[0-9a-f]{12}  \S|id +name|  ", line) for line in table), lines
    assert "weight" in on_terminal(root, 100, "list")[0]


def test_what_a_narrow_terminal_has_no_room_for_is_named(root: Path) -> None:
    said = "Left out for want of room: family, format, size, weight, triggers. A wider terminal or --json shows them."
    assert said in " ".join(on_terminal(root, 40, "list"))
    assert "\x1b[2mLeft out" in written(root, 40, "list")
    assert "Left out" not in written(root, 40, "list", stderr=subprocess.DEVNULL)
    assert "Left out" not in written(root, 200, "list")
    assert "Left out" not in written(root, 40, "list", "--json")
    env = environment(root, NOWHERE, COLUMNS="40")
    piped = subprocess.run([MODELSHELF, "list"], env=env, capture_output=True, text=True, check=False)
    assert ("triggers" in piped.stdout, piped.stderr) == (True, "")


@pytest.mark.parametrize("words", [("list",), ("doctor",), ("--help",), ("list", "--wrong"), ("verify",)])
def test_no_color_is_nothing_but_text(root: Path, words: tuple[str, ...]) -> None:
    assert "\x1b" in written(root, 100, *words)
    assert "\x1b" not in written(root, 100, *words, NO_COLOR="1")


def on_terminal(root: Path, width: int, *words: str, **more: str) -> list[str]:
    """What stands on a terminal of so many columns, line by line, without what only makes it bold."""
    return re.sub(r"\x1b\[[0-9;]*m", "", written(root, width, *words, **more)).splitlines()


def written(root: Path, width: int, *words: str, stderr: int | None = None, **more: str) -> str:
    """All that is written to a terminal of so many columns, standard error too unless it goes elsewhere."""
    terminal, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    env = {k: v for k, v in environment(root, NOWHERE, **more).items() if k not in ("COLUMNS", "LINES")} | {
        "TERM": "xterm"
    }
    with subprocess.Popen(
        [MODELSHELF, *words], env=env, stdin=theirs, stdout=theirs, stderr=stderr or theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while chunk := read(terminal):
            shown += chunk
        process.wait()
    os.close(terminal)
    return shown.decode().replace("\r", "")


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: nobody is at the other end any more
        return b""


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda root: (root.mkdir(), (root / "modelshelf.db").write_text("no database" * 100)), "database_unavailable"),
        (lambda root: root.write_text("a file"), "os_error"),
    ],
    ids=["no database", "root is a file"],
)
def test_a_root_that_cannot_be_used_is_one_line(
    here: Here, tmp_path: Path, prepare: Callable[[Path], object], code: str
) -> None:
    prepare(tmp_path / "root")
    ended, out, err = here("list")
    assert (ended, out, err.count("\n")) == (1, "", 1)
    assert err.endswith(f"[{code}]\n")
    ended, out, _ = here("doctor", MODELSHELF_DEVICE="cpu")
    assert ended == 1
    assert re.search(r"^- (database|root): ", out, re.MULTILINE)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "localhost:9", "http://127.0.0.1:9/"])
def test_a_service_s_address_needs_no_scheme(here: Here, address: str) -> None:
    whole = address.rstrip("/") if "://" in address else f"http://{address}"
    for answered in (here("--server", address, "list"), here("list", MODELSHELF_SERVER=address)):
        assert answered[0] == 1
        assert f" at {whole}; " in answered[2]


@pytest.mark.parametrize("address", ["ftp://gpu.example", "https://", ":8420", "localhost:99999"])
def test_what_is_no_address_of_a_service_is_not_asked(here: Here, address: str) -> None:
    assert here("--server", address, "list")[0] == 2
    assert here("list", MODELSHELF_SERVER=address)[2].endswith("[invalid_setting]\n")


def test_an_error_that_nobody_foresaw_is_one_line_with_the_trace_in_a_file(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("registry.queries.find", broken)
    monkeypatch.setattr("registry.catalog.find", broken)
    code, _, err = here("list")
    assert (code, err.count("\n")) == (1, 1)
    assert "RuntimeError: a bug" in err
    file = Path(re.search(r"Details: (\S+)", err)[1])  # type: ignore[index]
    assert "Traceback" in file.read_text()
    file.unlink()


def test_no_word_of_a_stranger_s_steers_the_terminal(here: Here) -> None:
    code, _, err = here("show", "\x1b]0;owned\x07")
    assert (code, err.count("\n")) == (1, 1)
    assert "owned" in err
    assert "\x1b" not in err
    assert "\x07" not in err


def test_the_database_is_looked_at_brought_up_to_date_and_copied(here: Here, tmp_path: Path) -> None:
    code, out, _ = here("db", "status")
    assert (code, out.split()[2:4]) == (1, ["schema", "none"])
    assert not (tmp_path / "root").exists() or not list((tmp_path / "root").iterdir())
    assert here("db", "upgrade")[1].startswith("Upgraded to ")
    code, out, _ = here("db", "status", "--json")
    assert code == 0
    assert '"schema": "current"' in out
    copy = tmp_path / "copy.db"
    assert here("db", "backup", str(copy))[0] == 0
    assert sqlite3.connect(copy).execute("SELECT count(*) FROM model").fetchone() == (0,)
    assert here("db", "backup", str(copy))[2].endswith("nothing is overwritten. [invalid_request]\n")


def test_doctor_tells_what_stands_in_the_way(root: Path, here: Here) -> None:
    code, out, _ = here("doctor", MODELSHELF_DEVICE="cpu")
    assert code == 0, out
    assert "models: 1 checkpoint, 1 lcm_lora, 2 lora" in out
    assert re.search(r"^~ hub: .* does not answer", out, re.MULTILINE)
    shutil.rmtree(root / "checkpoint")
    (root / "lora/sd-1/starter-heart.safetensors").unlink()
    for name in ("starter-base", "starter-heart"):
        here("verify", name)  # which sees that they are gone
    code, out, _ = here("doctor", "--json", MODELSHELF_DEVICE="cuda:99", MODELSHELF_HOST="0.0.0.0")
    assert code == 1
    assert '"gone: starter-base, starter-heart"' in out
    assert "'cuda:99' cannot be used" in out
    assert "none, and the host is 0.0.0.0" in out


def test_a_closed_pipe_is_no_error(root: Path) -> None:
    env = environment(root, NOWHERE)
    command = f"{MODELSHELF} list --json | head -c 1; exit ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


@pytest.mark.parametrize("served", [False, True], ids=["by itself", "with a service"])
def test_ctrl_c_pauses_an_install_and_says_how_to_go_on(tmp_path: Path, hub: LoopbackHub, served: bool) -> None:
    name, root = "modelshelf/starter-lcm-lora", tmp_path / "root"
    [file] = (hub.root / name).glob("*.safetensors")
    fault = hub.faults[f"{name}/{file.name}"] = Fault(bytes_per_second=200_000)
    with ExitStack() as stack:
        server: tuple[str, ...] = ()
        if served:
            server = ("--server", str(stack.enter_context(running_service(root, hub.endpoint)).base_url))
        env = environment(root, hub.endpoint)
        command = [MODELSHELF, *server, "install", name]
        process = stack.enter_context(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        while not list((root / ".downloads").glob("*/*.part")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err.count("\n")) == (130, "", 1)
        assert f"hf://{name} is paused, what has arrived is kept." in err
        how = re.search(r"`modelshelf (installs resume [0-9a-f]{12})` goes on", err)
        assert how
        fault.bytes_per_second = None
        went_on = subprocess.run(
            [MODELSHELF, *server, *how[1].split()], env=env, capture_output=True, text=True, check=False
        )
        assert (went_on.returncode, "starter-lcm-lora  lcm_lora" in went_on.stdout) == (0, True), went_on.stderr


def test_ctrl_c_pauses_an_install_that_has_only_just_been_submitted(
    tmp_path: Path, hub: LoopbackHub, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, root = "modelshelf/starter-lcm-lora", tmp_path / "root"
    [file] = (hub.root / name).glob("*.safetensors")
    hub.faults[f"{name}/{file.name}"] = Fault(bytes_per_second=200_000)
    submit = ThreadPoolExecutor.submit

    def interrupted(self: ThreadPoolExecutor, *given: Any) -> NoReturn:
        submit(self, *given)
        while not list((root / ".downloads").glob("*/*.part")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    code, out, err = here("install", name, HF_ENDPOINT=hub.endpoint)
    assert (code, out, err.count("is paused, what has arrived is kept")) == (130, "", 1), err


@pytest.mark.parametrize("answers", [True, False], ids=["one was discarded", "the service is gone"])
def test_ctrl_c_stays_ctrl_c_whatever_became_of_the_installs(
    here: Here, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    both = Barrier(2)

    def interrupted(*_: object) -> NoReturn:
        both.wait(60)
        raise KeyboardInterrupt

    def paused(_: RemoteShelf, install_id: str) -> SimpleNamespace:
        if install_id == "first":
            raise InstallNotFound("It was discarded.")
        return SimpleNamespace(id=install_id, source="hf://second", state="paused")

    monkeypatch.setattr(RemoteShelf, "submit_install", lambda _, source, options: SimpleNamespace(id=source))
    monkeypatch.setattr(RemoteShelf, "install_events", interrupted)
    if answers:
        monkeypatch.setattr(RemoteShelf, "get_install", paused)
    code, out, err = here("--server", NOWHERE, "install", "first", "second", MODELSHELF_INSTALLS_AT_ONCE="2")
    assert (code, out) == (130, "")
    assert err.count("`modelshelf installs resume second` goes on.") == answers
    assert "[" not in err
