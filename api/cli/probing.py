"""`modelshelf probe`: what are these files, and why?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from api.cli.common import Family, Kind, Source
from api.cli.explaining import explanation_lines, summary
from api.cli.output import Line, print_lines, say
from registry.errors import InvalidRequest, ModelshelfError
from registry.words import Words, check_words, heard, words_of

if TYPE_CHECKING:
    from probes import Explanation, UnreadableModel
    from registry.probing import Target
    from registry.settings import Settings

    Loaded: TypeAlias = Target | UnreadableModel | ModelshelfError

UNREADABLE, NOT_IDENTIFIED = 2, 3  # exit codes; where both are due, the first
STDOUT = Path("-")

app = typer.Typer()


@app.command()
def probe(
    source: Source,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")] = False,
    explained: Annotated[
        bool, typer.Option("--explain", help="Print the evidence, what the input nearly is, and why it is not.")
    ] = False,
    dump: Annotated[
        Path | None,
        typer.Option(
            "--dump-header",
            metavar="FILE",
            help="Write the names, dtypes, shapes and metadata of one input to FILE (- prints them; .gz compresses them), "
            "to report a wrong answer without sending the model. A dump can be probed like the model itself.",
        ),
    ] = None,
    keep_private: Annotated[
        bool,
        typer.Option(
            "--keep-private", help="Dump titles, comments, paths and training tags as they are, not redacted."
        ),
    ] = False,
    family: Family = None,
    kind: Kind = None,
) -> None:
    """Tell what files are, from their headers alone.

    An input is a file, a header dump, or a folder or repository that is one model (diffusers, PEFT); of any other folder
    or repository, each model file in it is one. Of what is elsewhere, the header alone is fetched. It is this machine that looks,
    whatever --server says: the answer is the same, and the files are here.

    Exit status: 0 when all are identified; 3 when some are not (ambiguous, unknown, unusable); 2 when some cannot be read
    at all, whatever the others are.

    Keys of --json: source, outcome, kind, family, variant, prediction_type, format, rank, candidates, traits, evidence,
    reason; then default_prediction_type (the family's usual one), layout, tags, choices (candidates, as family and kind:
    what --family and --kind can say), error (a code where the input cannot be read; its outcome is unusable), and with
    --explain explanation (what matched, what nearly did, what was overruled).
    candidates: what fits alike, "FAMILY KIND" each; of an identified model also what it could be as well, after its own.

    Example: `modelshelf probe ./file.safetensors OWNER/REPO --explain`
    """
    from registry.settings import Settings

    settings, worst = Settings(), 0
    words = words_of({"family": family, "kind": kind})
    check_words(words)
    found: Iterator[tuple[str, Loaded]] = chain.from_iterable(_loaded(text, settings, words) for text in source)
    if dump is not None:
        found = _dumped(found, dump, keep_private)
    out = sys.stderr if dump == STDOUT else sys.stdout
    for name, loaded in found:
        explanation, error = _answer(name, loaded, explained)
        report = explanation.report
        if as_json:
            more = {"explanation": _details(explanation)} if explained else {}
            print(json.dumps(report.as_dict() | {"error": error} | more), file=out, flush=True)
        elif error:
            say(f"modelshelf: {name}: {report.reason} [{error}]", sys.stderr)
        elif explained:
            print_lines(explanation_lines(name, explanation), out)
        else:
            print_lines([Line(f"{name}: {summary(report)}")], out)
        if error:
            worst = UNREADABLE
        elif report.outcome != "identified" and worst != UNREADABLE:
            worst = NOT_IDENTIFIED
    raise typer.Exit(worst)


def _loaded(text: str, settings: Settings, words: Words) -> Iterator[tuple[str, Loaded]]:
    """Every input that `text` names, with what there is to probe and the user's words, or why there is nothing."""
    from probes import UnreadableModel
    from registry.probing import inputs

    try:
        for each in inputs(text, settings):
            try:
                target, hints = each.load()
                loaded: Loaded = target, heard(hints, words)
            except (UnreadableModel, ModelshelfError) as error:
                loaded = error
            yield each.source, loaded
    except (UnreadableModel, ModelshelfError) as error:
        yield text, error


def _answer(name: str, loaded: Loaded, explained: bool) -> tuple[Explanation, str | None]:
    """The answer, and the code of what could not be read."""
    from probes import Explanation, Outcome, Report, explain, probe

    if isinstance(loaded, Exception):
        return Explanation(Report(Outcome.UNUSABLE, str(loaded), source=name)), loaded.code
    target, hints = loaded
    answer = explain(target, hints) if explained else Explanation(probe(target, hints))
    return replace(answer, report=replace(answer.report, source=name)), None


def _details(explanation: Explanation) -> dict[str, Any]:
    return {name: value for name, value in asdict(explanation).items() if name != "report"}


def _dumped(found: Iterator[tuple[str, Loaded]], path: Path, keep_private: bool) -> Iterator[tuple[str, Loaded]]:
    """The one input there is, once its dump has been written. Nothing is overwritten: a model may have that name."""
    from probes import UnreadableModel, dump_header, pack_dump, probe

    if path != STDOUT and path.exists():
        raise InvalidRequest(f"{path} exists already; --dump-header overwrites nothing.")
    (name, loaded), *others = list(islice(found, 2))
    if others:
        raise InvalidRequest(f"--dump-header takes one input, and there are more: {name}, {others[0][0]}.")
    if not isinstance(loaded, Exception):
        try:
            document = dump_header(
                *loaded, probe(*loaded), keep_private=keep_private, made_by=f"modelshelf {version('modelshelf')}"
            )
        except UnreadableModel as error:
            loaded = error
        else:
            data = pack_dump(document, compressed=path.suffix == ".gz")
            if path == STDOUT:
                sys.stdout.buffer.write(data)  # UTF-8, whatever the terminal shows
            else:
                path.write_bytes(data)
    yield name, loaded
