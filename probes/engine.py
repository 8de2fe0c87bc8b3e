"""Holds every signature against a header. Order-free: all are tried, and unless exactly one family matches, the answer
says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from probes.claims import foremost
from probes.containers.folder import PIPELINE_INDEX, Folder
from probes.containers.torch_zip import ADVICE, PICKLED
from probes.containers.weight_names import Part, part_of
from probes.contenders import contest
from probes.dump import read_target
from probes.families import SIGNATURES
from probes.header import Header
from probes.report import Evidence, Hints, Kind, Outcome, Report
from probes.said_variants import said_variant
from probes.signature import Match, match_all
from probes.subject import Subject
from probes.verdicts import ambiguous, checkpoint, excluding, lora, near_misses, orphaned, unknown
from probes.wording import listed

DENOISERS = ("unet", "transformer", "prior", "decoder")
_EMPTY = (
    "The file is whole but holds no tensors, as one that was saved before anything was put into it. Download it again, or "
    "ask who made it."
)
_ALL_PARTS = (
    "Get all parts and their index (NAME.safetensors.index.json) into one folder, and give that folder. If it is a model after all, "
    "give the file another name."
)
_JOIN = "Get all parts and join them with `llama-gguf-split --merge`. If it is a model after all, give the file another name."
_NO_WEIGHTS = (
    "The folder describes a model and has no .safetensors file with its weights. Download it again, or convert the weights "
    "that it has."
)
_NO_CLASS = "The folder's index names neither a pipeline (_class_name) nor an adapter (peft_type), and it has"


def probe(target: str | Path | Header | Folder, hints: Hints | None = None) -> Report:
    """What a file, a folder, a header dump, or headers fetched from elsewhere are. Reads headers only.

    Raises UnreadableModel where the bytes are no model or not whole; everything else, pickles and unknown files
    included, is an answer.
    """
    if isinstance(target, (str, Path)):
        found, told = read_target(target)
        return answer(found, told if hints is None else hints, Path(target))
    return answer(target, hints)


def answer(target: Header | Folder, hints: Hints | None, path: Path | None = None) -> Report:
    """What a probe says of headers that have been read. `path`: where from, if from this machine."""
    hints = hints or Hints()
    source = None if path is None else str(path)
    if isinstance(target, Folder):
        return replace(_probe_folder(target, hints), source=source)
    # The file's own name is no hint unless the caller says so: people and downloads rename files. But none calls a model a part.
    part = part_of(hints.filename or (path.name if path else ""))
    if part and part.total > 1 and target.format not in PICKLED:
        return replace(_one_part(target, part), source=source)
    return replace(_probe_header(target, hints), source=source)


def _one_part(header: Header, part: Part) -> Report:
    """The report of a file that is one of several by its name, whatever its shapes fit: what is missing may be what tells the model
    apart."""
    which = f"part {part.number} of {part.total}"
    remedy = _JOIN if header.format == "gguf" else _ALL_PARTS
    said = Evidence("whole", False, "file name", "a whole model", which)
    reason = f"By its name this is {which} of a model, and by itself it is none. {remedy}"
    return Report(Outcome.UNUSABLE, reason, format=header.format, evidence=(said,))


def _probe_header(header: Header, hints: Hints, scheduler: Mapping[str, Any] | None = None) -> Report:
    if header.format in PICKLED:
        return Report(Outcome.UNUSABLE, ADVICE, format=header.format)
    if not header.tensors:
        return Report(Outcome.UNKNOWN, _EMPTY, format=header.format)
    subject = Subject(header, hints)
    attempts = list(match_all(SIGNATURES, subject))
    report = _judge(subject, attempts, scheduler)
    return excluding(replace(report, format=header.format), hints)


def _judge(subject: Subject, attempts: Sequence[Match], scheduler: Mapping[str, Any] | None) -> Report:
    matches = [match for match in attempts if match.ok]
    if not matches:
        return unknown(subject)
    matches, out = contest(matches, subject)
    near = near_misses(matches, [*(match.ruled_out(evidence) for match, evidence in out), *attempts])
    if subject.adapter.orphans and any(match.signature.kind is Kind.LORA for match in matches):
        return orphaned(subject.adapter)
    chosen, why = _choose(subject, matches)
    if chosen is None:
        return ambiguous(subject, sorted(matches, key=lambda match: match.signature.name))
    unsaid = _unsaid(subject, chosen, attempts)
    if chosen.signature.kind is Kind.LORA:
        return lora(subject, chosen, (*why, *near), unsaid)
    return checkpoint(subject, chosen, (*why, *near), scheduler, unsaid)


def _choose(subject: Subject, matches: Sequence[Match]) -> tuple[Match | None, tuple[Evidence, ...]]:
    """The one match, or the one among several families of a kind that the most trustworthy claim names."""
    if len({(m.signature.kind, m.signature.family) for m in matches}) == 1:
        return matches[0], ()
    if len({m.signature.kind for m in matches}) == 1:
        by_family = {m.signature.family: m for m in reversed(matches)}
        claims = foremost(subject.claims, by_family)
        if len({claim.family for claim in claims}) == 1:
            best = claims[0]
            said = Evidence(
                "claimed", True, best.source, f"one of {listed(sorted(f or '' for f in by_family))}", best.said
            )
            return by_family[best.family], (said,)
    return None, ()


def _unsaid(subject: Subject, chosen: Match, attempts: Sequence[Match]) -> tuple[str, ...]:
    """Families that the file may be of or for as well: all that their signatures lack is somebody who says so."""
    kind, family = chosen.signature.kind, chosen.signature.family
    if any(claim.family == family for claim in subject.claims):
        return ()
    lacking = [m for m in attempts if m.signature.kind is kind and _lacks_a_word(m, subject)]
    families = {m.signature.family for m in lacking if m in contest((chosen, m), subject)[0]}
    return tuple(sorted(other for other in families if other and other != family))


def _lacks_a_word(match: Match, subject: Subject) -> bool:
    """Whether all rules hold but the one that asks for a claim."""
    said = match.evidence[-1]
    if said.ok or said.rule != "claimed":
        return False
    view = subject.under(match.root)
    return all(rule.check(view).ok for rule in match.signature.rules[len(match.evidence) :])


# --- folders ---


def _probe_folder(folder: Folder, hints: Hints) -> Report:
    peft = folder.index is not None and "peft_type" in folder.index
    form = "peft folder" if peft else "diffusers folder" if folder.index is not None else "folder"
    judge = _probe_component if peft or folder.index is None else _probe_pipeline
    return replace(judge(folder, hints), format=form)


def _probe_component(folder: Folder, hints: Hints) -> Report:
    """A folder with one weight file; PEFT's adapter_config names the base and where its class is written
    (`diffusers.models.transformers.transformer_chroma`), which counts as the card's base_model does."""
    header = folder.headers.get("")
    if header is None:
        return Report(Outcome.UNUSABLE, ADVICE if "" in folder.pickles else folder.unused.get("", _NO_WEIGHTS))
    base = _bases(folder.index or {})
    if base and not (hints.card or {}).get("base_model"):
        hints = replace(hints, card={**(hints.card or {}), "base_model": base})
    return _probe_header(header, hints)


def _bases(config: Mapping[str, Any]) -> list[str]:
    mapping = config.get("auto_mapping")
    said = (config.get("base_model_name_or_path"), mapping.get("parent_library") if isinstance(mapping, dict) else None)
    return [name for name in said if isinstance(name, str) and name]


def _probe_pipeline(folder: Folder, hints: Hints) -> Report:
    pipeline = (folder.index or {}).get("_class_name")
    component = next((name for name in DENOISERS if name in folder.headers), None)
    if component is None:
        if set(DENOISERS) & set(folder.pickles):
            return Report(Outcome.UNUSABLE, ADVICE)
        if unused := [f"The folder's {name}: {folder.unused[name]}" for name in DENOISERS if name in folder.unused]:
            return Report(Outcome.UNUSABLE, unused[0])
        what = f"The {pipeline} folder has" if pipeline else _NO_CLASS
        return Report(
            Outcome.UNUSABLE,
            f"{what} no weights of a unet or transformer. Download it again, sub-folders included.",
        )
    report = _probe_header(folder.headers[component], hints, folder.configs.get("scheduler"))
    kinds = {report.kind} if report.kind else {choice.kind for choice in report.choices}
    if kinds and Kind.CHECKPOINT not in kinds:
        kind = " or ".join(sorted(kinds))
        found = Evidence("component", False, component, "a network that draws", kind)
        reason = f"The folder's {component} is of the kind {kind}, which does not draw. Download it again."
        return Report(Outcome.UNUSABLE, reason, evidence=(found, *report.evidence))
    seen = Evidence("pipeline", True, PIPELINE_INDEX, f"a pipeline with a {component}", str(pipeline))
    variant, said = said_variant(report.family, report.variant, [(PIPELINE_INDEX, str(pipeline))])
    return replace(report, variant=variant, evidence=(seen, *report.evidence, *said))
