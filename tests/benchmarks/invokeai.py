"""Identification: probes.probe beside InvokeAI's, over the corpus and the header fixtures: what either says, and what that
costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from probes import Header, Hints, Outcome, Report, probe
from probes.names import forget
from tests.benchmarks.tables import Cell, Table
from tests.probes import corpus, headers

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "invokeai_requirements.txt"
SIDE = HERE / "invokeai_side.py"

FLAT = "LoRA, names with underscores (kohya, LyCORIS)"
DOTTED = "LoRA, names with dots (diffusers, PEFT, ComfyUI)"
FOLDER = "the same, each in a folder as diffusers writes it"
WHOLE = "checkpoint, single file"
NAMELESS_LORA = "not taken: LoRA"
NAMELESS_CHECKPOINT = "not taken: checkpoint, single file"
UNET = "not taken: UNet alone, LDM names"
GROUPS = (FLAT, DOTTED, FOLDER, WHOLE, NAMELESS_LORA, NAMELESS_CHECKPOINT, UNET)

LEFT_OUT = {
    "flux-1-schnell-nunchaku": "a quantization that InvokeAI has no format for",
    "wan-14b-i2v-original": "Wan 2.1, which InvokeAI refuses by its name; its Wan is 2.2",
}
SINGLE_FILE_LAYOUTS = {"ldm", "bfl", "original", None}


class Verdict(StrEnum):
    RIGHT = "right"
    NOT_TOLD = "not told"
    WRONG = "wrong"


VERDICTS = (*Verdict, *(f"I {verdict}" for verdict in Verdict))
"""Columns: ours, then InvokeAI's."""


@dataclass(frozen=True)
class Answer:
    """What a file is or is said to be, in modelshelf's words. No kind: not told."""

    kind: str | None = None
    family: str | None = None
    prediction_type: str | None = None

    def __str__(self) -> str:
        return f"{self.family or 'unknown'} {self.kind or 'unknown'}"


@dataclass(frozen=True)
class Case:
    group: str
    fixture: str
    expected: Answer

    def write(self, folder: Path) -> Path:
        """Under a name that tells nothing, its tensors a hole."""
        path = _write(
            folder, headers.load(self.fixture).header, "pytorch_lora_weights" if self.group == FOLDER else "model"
        )
        return path.parent if self.group == FOLDER else path

    def remove(self, path: Path) -> None:
        for each in path.iterdir() if path.is_dir() else [path]:
            each.unlink()


def _write(folder: Path, header: Header, name: str) -> Path:
    place = folder / "model"
    place.mkdir(exist_ok=True)
    return headers.write_sparse(place / f"{name}.safetensors", header.tensors, header.metadata)


def judge(expected: Answer, said: Answer) -> Verdict:
    """One rule for both sides. A kind without a family tells half, which is nothing wrong."""
    if said.kind is None or (said.kind == expected.kind and said.family is None):
        return Verdict.NOT_TOLD
    return Verdict.RIGHT if (said.kind, said.family) == (expected.kind, expected.family) else Verdict.WRONG


def judge_prediction(expected: Answer, said: Answer) -> Verdict:
    if said.prediction_type is None:
        return Verdict.NOT_TOLD
    return Verdict.RIGHT if said.prediction_type == expected.prediction_type else Verdict.WRONG


def of_report(report: Report) -> Answer:
    if report.outcome is not Outcome.IDENTIFIED or report.kind is None:
        return Answer()
    kind = "lora" if report.kind.endswith("lora") else str(report.kind)
    return Answer(kind, report.family, report.prediction_type)


def of_invokeai(said: Mapping[str, Any]) -> Answer:
    if said["type"] in (None, "unknown"):
        return Answer()
    kind = {"main": "checkpoint", "control_lora": "lora"}.get(said["type"], said["type"])
    family = {"flux": "flux-1", "flux2": "flux-2", "unknown": None, "any": None}.get(said["base"], said["base"])
    return Answer(kind, family, said["prediction_type"])


def takes(configs: Sequence[Sequence[str]]) -> set[Answer]:
    """The kinds and families of single files that InvokeAI takes. `configs`: type, base and format of each of its own."""
    return {
        of_invokeai({"type": kind, "base": base, "prediction_type": None})
        for kind, base, layout in configs
        if kind != "main" or layout != "diffusers"  # a pipeline's folder
    }


def cases(taken: Collection[Answer]) -> Iterator[Case]:
    """The fixtures that can be compared."""
    for name in headers.names():
        loaded = headers.load(name)
        expect = loaded.expect
        kind = expect.get("kind")
        # The miniatures are of our own starter's shape, which nobody else can know.
        if "outcome" in expect or kind not in ("lora", "checkpoint") or "miniature" in name or name in LEFT_OUT:
            continue
        expected = Answer(kind, expect["family"], expect.get("prediction_type"))
        known = Answer(kind, expected.family) in taken
        if kind == "lora":
            flat = all(key.startswith(("lora_", "lycoris_")) for key in loaded.tensors)
            yield Case(NAMELESS_LORA if not known else FLAT if flat else DOTTED, name, expected)
            if known and not flat:
                yield Case(FOLDER, name, expected)
        elif expect.get("layout") in SINGLE_FILE_LAYOUTS:
            alone = name.startswith("unet-")
            yield Case(UNET if alone else WHOLE if known else NAMELESS_CHECKPOINT, name, expected)


def environment() -> Path:
    """The other side's Python, with what it needs beside our packages; made once, and again when the list changes."""
    folder = Path(sys.prefix) / "invokeai-benchmark"
    python = folder / "bin" / "python"
    ready = folder / "ready.txt"
    wanted = REQUIREMENTS.read_text()
    if ready.exists() and ready.read_text() == wanted:
        return python
    print(f"invokeai: makes an environment from the package index's {REQUIREMENTS.name}, once", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS]
    subprocess.run(list(map(str, pip)), check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ready.write_text(wanted)
    return python


class InvokeAI:
    """A process of the other side's, told one path at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.configs: list[list[str]] = self._next()

    def _next(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("InvokeAI's process has ended")
        return json.loads(line)

    def ask(self, path: Path) -> tuple[Answer, float]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(str(path)) + "\n")
        self._process.stdin.flush()
        said = self._next()
        if said["refused"]:
            raise RuntimeError(f"no fair answer, this machine cannot open {path}: {said['refused'][0]}")
        return of_invokeai(said), said["seconds"]


@contextmanager
def invokeai(folder: Path, seed: int) -> Iterator[InvokeAI]:
    python, log = environment(), folder / f"invokeai-{seed}.log"
    print(f"invokeai: starts it with PYTHONHASHSEED={seed}; importing takes a minute", file=sys.stderr)
    quiet = {"INVOKEAI_ROOT": str(folder), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONHASHSEED": str(seed)}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, "-P", SIDE],  # this folder would stand before the packages
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=os.environ | quiet,
        )
        with process:
            try:
                yield InvokeAI(process)
            except BaseException:
                process.kill()
                print("".join(log.read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
                raise


def first_look(path: Path) -> tuple[Answer, float]:
    forget()
    start = time.process_time()
    report = probe(path)
    return of_report(report), time.process_time() - start


@dataclass(frozen=True)
class Outcomes:
    """Of one case: what either side said, and the median of its CPU seconds. Ours is first, everywhere."""

    case: Case
    said: tuple[Answer, Answer]
    seconds: tuple[float, float]


def run(quick: bool) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with invokeai(folder, seed=1) as other:
            taken = takes(other.configs)
            by_others = corpus_verdicts(folder, other, taken, 3 if quick else None)
            compared = list(cases(taken))[:: 12 if quick else 1]
            outcomes = [look(case, folder, other, 1 if quick else 3) for case in compared]
        with invokeai(folder, seed=2) as other:
            again = [ask_once(case, folder, other) for case in compared]
    yield by_others
    yield verdicts(outcomes, sum(each.said[1] != said for each, said in zip(outcomes, again, strict=True)))
    yield costs(outcomes)
    yield mistakes(outcomes)


def corpus_verdicts(folder: Path, other: InvokeAI, taken: Collection[Answer], most: int | None) -> Table:
    """What either side says of headers that others made, of each maker's the first `most`."""
    counts = {
        maker: [Counter(verdicts) for verdicts in zip(*judged, strict=True)]
        for maker in corpus.makers()
        if (judged := list(islice(_judged(maker, folder, other, taken), most)))
    }
    total = [sum((count[side] for count in counts.values()), Counter()) for side in (0, 1)]
    return Table(
        "What a file is, of the corpus's single files whose kind and family InvokeAI takes; InvokeAI is I",
        ("made by", "count", *VERDICTS),
        [
            (maker, both[0].total(), *(count[verdict] for count in both for verdict in Verdict))
            for maker, both in [*counts.items(), ("all", total)]
        ],
        (
            "Made by trainers and exporters, not by us (tests/probes/corpus); each alone, under a name that tells nothing.",
            "Without those whose tensors several families have, and whose names or cards would be needed.",
        ),
    )


def _judged(maker: str, folder: Path, other: InvokeAI, taken: Collection[Answer]) -> Iterator[tuple[Verdict, Verdict]]:
    for case in corpus.cases(maker):
        kind, family = str(case.expect.get("kind")).replace("lcm_lora", "lora"), case.expect.get("family")
        expected = Answer(kind, family)
        told = case.hints == Hints() and len(case.alike) < 2 and "identified" not in case.expect
        if not told or case.header.format != "safetensors" or expected not in taken:
            continue
        path = _write(folder, case.header, "model")
        yield judge(expected, first_look(path)[0]), judge(expected, other.ask(path)[0])
        path.unlink()


def look(case: Case, folder: Path, other: InvokeAI, rounds: int) -> Outcomes:
    """Both sides in turns; once before, uncounted."""
    path = case.write(folder)
    said = first_look(path)[0], other.ask(path)[0]
    spent: tuple[list[float], list[float]] = [], []
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 else (1, 0):
            spent[side].append((first_look, other.ask)[side](path)[1])
    case.remove(path)
    return Outcomes(case, said, (median(spent[0]), median(spent[1])))


def ask_once(case: Case, folder: Path, other: InvokeAI) -> Answer:
    path = case.write(folder)
    said, _ = other.ask(path)
    case.remove(path)
    return said


def verdicts(outcomes: Sequence[Outcomes], differ: int) -> Table:
    def row(title: str, chosen: Sequence[Outcomes], rule: Any = judge) -> Sequence[Cell]:
        counts = [Counter(rule(each.case.expected, each.said[side]) for each in chosen) for side in (0, 1)]
        return (title, len(chosen), *(count[verdict] for count in counts for verdict in Verdict))

    groups = [(group, [each for each in outcomes if each.case.group == group]) for group in GROUPS]
    told = [each for each in outcomes if each.case.group == WHOLE and each.case.expected.prediction_type]
    rows = [row(group, chosen) for group, chosen in groups if chosen]
    if told:
        at = sum(bool(chosen) for _, chosen in groups[: GROUPS.index(WHOLE) + 1])
        rows.insert(at, row("its prediction type, where the file says", told, judge_prediction))
    version = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("invokeai=="))
    return Table(
        f"What a file is: probes.probe beside {version.split()[0].replace('==', ' ')}, which is I",
        ("files", "count", *VERDICTS),
        rows,
        (
            "Right: the kind (checkpoint, LoRA) and the family. The fixtures are our own tests', which hold the probe to them:",
            "the left half shows that both are judged alike, not how the probe does on files that nobody has tried.",
            "Not taken: InvokeAI has no config for that family in a single file, and loads no UNet alone: not told is right there.",
            f"In a second process of another hash seed {differ} of InvokeAI's {len(outcomes)} answers were different.",
        ),
    )


def costs(outcomes: Sequence[Outcomes]) -> Table:
    rows: list[Sequence[Cell]] = []
    for group in GROUPS:
        chosen = [each.seconds for each in outcomes if each.case.group == group]
        if chosen and group != FOLDER:
            sides = [[seconds[side] * 1e3 for seconds in chosen] for side in (0, 1)]
            each = (value for side in sides for value in (median(side), max(side)))
            rows.append((group, len(chosen), *each, median(theirs / ours for ours, theirs in chosen)))
    return Table(
        "CPU time of identifying one file, ms",
        ("files", "count", "median", "largest", "I median", "I largest", "x, median"),
        rows,
        (
            "Each side in a process of its own, in turns, each file once before; nothing remembered of it (names.forget), no hash.",
            "The tensors are a hole, in page cache. InvokeAI maps the file and makes a torch tensor of each of its names.",
        ),
    )


def mistakes(outcomes: Sequence[Outcomes]) -> Table:
    rows: list[Sequence[Cell]] = []
    for side, name in enumerate(("modelshelf", "InvokeAI")):
        for each in outcomes:
            expected, said = each.case.expected, each.said[side]
            if each.case.group == FOLDER:
                continue
            if judge(expected, said) is Verdict.WRONG:
                rows.append((name, each.case.fixture, str(expected), str(said)))
            told = each.case.group == WHOLE and expected.prediction_type
            if told and judge_prediction(expected, said) is Verdict.WRONG:
                rows.append((name, each.case.fixture, str(expected.prediction_type), str(said.prediction_type)))
    return Table("Named wrongly", ("by", "fixture", "is", "was called"), rows)
