"""Benchmarks run, and what they count is so; what they time is for people to judge."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace

import pytest

from probes import Kind, Outcome, Report
from tests.benchmarks import invokeai, probes
from tests.benchmarks.__main__ import BENCHMARKS, DOWNLOADING, main
from tests.benchmarks.tables import Table, side_by_side


def test_every_name_is_a_module() -> None:
    assert [name for name in BENCHMARKS | DOWNLOADING if find_spec(f"tests.benchmarks.{name}") is None] == []


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nonsense"])
    assert caught.value.code == 2
    assert "nonsense; there are" in capsys.readouterr().err


def test_contenders_take_turns_and_none_goes_first_always() -> None:
    calls: list[str] = []
    spent = side_by_side({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3)
    rounds = ["".join(calls[at : at + 3]) for at in range(0, len(calls), 3)]
    assert [sorted(each) for each in rounds] == [["a", "b", "c"]] * 4  # one is not counted
    assert all(first[0] != second[0] for first, second in pairwise(rounds))
    assert spent.keys() == {"a", "b", "c"}
    assert all(seconds >= 0 for seconds in spent.values())


def test_tables_line_up() -> None:
    table = str(Table("Title", ("name", "n"), [("a", 1234567), ("bcd", 0.123456)], ("a note",)))
    assert table.splitlines() == [
        "Title",
        "name          n",
        "----  ---------",
        "a     1,234,567",
        "bcd       0.123",
        "a note",
    ]


def test_a_benchmark_that_downloads_runs_only_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(
        "tests.benchmarks.__main__.import_module",
        lambda module: SimpleNamespace(run=lambda quick: ran.append(module.rsplit(".")[-1]) or ()),
    )
    main([])
    assert ran == list(BENCHMARKS)
    assert BENCHMARKS.keys().isdisjoint(DOWNLOADING)
    main(list(DOWNLOADING))
    assert ran == [*BENCHMARKS, *DOWNLOADING]


@pytest.mark.parametrize(
    ("expected", "said", "verdict"),
    [
        (("lora", "sdxl"), ("lora", "sdxl"), "right"),
        (("lora", "sdxl"), (None, None), "not told"),
        (("lora", "sdxl"), ("lora", None), "not told"),
        (("lora", "ssd-1b"), ("lora", "sdxl"), "wrong"),
        (("checkpoint", "sd-1"), ("controlnet", "sd-1"), "wrong"),
        (("checkpoint", "sd-1"), ("controlnet", None), "wrong"),
    ],
)
def test_what_either_side_says_is_right_wrong_or_not_told(
    expected: tuple[str, str], said: tuple[str | None, str | None], verdict: str
) -> None:
    assert invokeai.judge(invokeai.Answer(*expected), invokeai.Answer(*said)) == verdict


@pytest.mark.parametrize(("said", "verdict"), [("v_prediction", "right"), (None, "not told"), ("epsilon", "wrong")])
def test_a_prediction_type_is_judged_by_itself(said: str | None, verdict: str) -> None:
    expected = invokeai.Answer("checkpoint", "sdxl", "v_prediction")
    assert invokeai.judge_prediction(expected, invokeai.Answer("checkpoint", "sdxl", said)) == verdict


def test_both_sides_answers_are_put_in_the_same_words() -> None:
    assert invokeai.of_report(Report(Outcome.AMBIGUOUS, "", Kind.LORA)) == invokeai.Answer()
    lcm = Report(Outcome.IDENTIFIED, "", Kind.LCM_LORA, "flux-1")
    theirs = {"type": "lora", "base": "flux", "prediction_type": None}
    assert invokeai.of_report(lcm) == invokeai.of_invokeai(theirs) == invokeai.Answer("lora", "flux-1")
    assert invokeai.of_invokeai({**theirs, "type": "main"}).kind == "checkpoint"
    assert invokeai.of_invokeai({**theirs, "base": "unknown"}) == invokeai.Answer("lora")
    assert invokeai.of_invokeai({**theirs, "type": "unknown", "base": "unknown"}) == invokeai.Answer()


def test_what_the_other_side_has_no_name_for_is_counted_apart() -> None:
    configs = [("lora", "sdxl", "lycoris"), ("main", "sdxl", "checkpoint"), ("main", "sd-3", "diffusers")]
    found = {(case.fixture, case.group) for case in invokeai.cases(invokeai.takes(configs))}
    assert {
        ("lora-sdxl-kohya", invokeai.FLAT),
        ("lora-sdxl-peft", invokeai.DOTTED),
        ("lora-sdxl-peft", invokeai.FOLDER),
        ("single-file-sdxl", invokeai.WHOLE),
        ("lora-ssd-1b-kohya", invokeai.NAMELESS_LORA),
        ("sd-3-medium-single-file", invokeai.NAMELESS_CHECKPOINT),
        ("unet-sdxl-ldm", invokeai.UNET),
    } <= found
    names = {fixture for fixture, _ in found}
    assert names.isdisjoint({"lcm-lora-sdxl", "unet-sdxl-diffusers", "vae-ldm", "single-file-sd-1-miniature"})


def test_what_is_named_wrongly_is_listed_its_prediction_type_too() -> None:
    right = invokeai.Answer("checkpoint", "sdxl", "v_prediction")
    case = invokeai.Case(invokeai.WHOLE, "single-file-sdxl-v-pred", right)
    said = (right, invokeai.Answer("checkpoint", "sdxl", "epsilon"))
    outcomes = [invokeai.Outcomes(case, said, (0.002, 0.02))]
    assert invokeai.mistakes(outcomes).rows == [("InvokeAI", case.fixture, "v_prediction", "epsilon")]
    assert [row[1:] for row in invokeai.verdicts(outcomes, 0).rows] == [(1, 1, 0, 0, 1, 0, 0), (1, 1, 0, 0, 0, 0, 1)]
    assert [row[-1] for row in invokeai.costs(outcomes).rows] == [10]


@pytest.mark.slow
def test_a_probe_reads_the_header_alone_and_a_remote_file_once() -> None:
    local, folder, remote = probes.run(quick=True)
    at = {name: local.columns.index(name) for name in ("header bytes", "bytes read")}
    assert [row[at["bytes read"]] for row in local.rows] == [row[at["header bytes"]] for row in local.rows]
    assert [(row[0], row[1], row[2]) for row in folder.rows] == [
        ("first, no file like one before", 100, 100),
        ("first", 100, 100),
        ("second, unchanged", 100, 0),
    ]
    assert {(row[2], row[3]) for row in remote.rows} == {(1, 512 * 1024)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's remarks on diffusers' way with it
def test_the_gpu_s_tables_are_made_on_a_cpu_at_little_width_and_the_base_stays_exact() -> None:
    from tests.benchmarks import gpu

    loading, switching = gpu.run(quick=True)
    assert [row[0] for row in loading.rows] == ["disk alone", "bus alone", "a bundle", "a bundle, from page cache"]
    ratios = {row[0]: row[3] for row in switching.rows}
    assert len(ratios) == 6
    assert all(isinstance(ratio, float) for what, ratio in ratios.items() if what != "the same set again")
    assert switching.notes[1].startswith("every base byte equal afterwards: True")
