"""Holds every signature against a header. Order-free: all are tried, and unless exactly one family matches, the answer
says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from probes.adapter_names import BOFT, GLORA, IA3, LOHA, LOKR, OFT
from probes.adapters import Adapter
from probes.claims import SIDECAR_KEYS, TAGS, texts
from probes.containers.folder import Folder
from probes.containers.torch_zip import ADVICE
from probes.dump import read_target
from probes.families import SIGNATURES
from probes.header import Header
from probes.likeness import likenesses
from probes.predictions import prediction_type
from probes.report import Evidence, Hints, Kind, Outcome, Report, Trait
from probes.signature import Match, Signature, match_all
from probes.subject import Subject
from probes.traits import DECIDED, MARGIN, Weighed, weigh
from probes.wording import sentence

_PICKLES = ("torch_zip", "pickle")
_LYCORIS = {LOHA, LOKR, GLORA, OFT, BOFT, IA3}
DENOISERS = ("unet", "transformer", "prior")
_TAG_KEYS = (
    "ss_base_model_version",
    "ss_sd_model_name",
    "modelspec.title",
    "modelspec.architecture",
    "modelspec.merged_from",
)
_NEAR = 3
"""How many signatures that came closest a report explains."""
_TOLD = 2
"""How many differences from the closest family a reason names."""
_EMPTY = (
    "The file is whole but holds no tensors, as one that was saved before anything was put into it. Download it again, or "
    "ask who made it."
)
_NO_WEIGHTS = (
    "The folder describes a model and has no .safetensors file with its weights. Download it again, or convert the weights "
    "that it has."
)
_SAY_WHICH = (
    "Say it in the file's name (as in NAME-{}.safetensors), or as base_model in a model card (README.md) beside it."
)
_SAY_ACCELERATION = (
    "Say which in the file's name (as in lcm-NAME.safetensors), or in the tags of a model card (README.md) beside it."
)
_REPORT_IT = (
    "`modelshelf probe --explain` tells more; if it should be known, report it with `--dump-header` (CONTRIBUTING.md)."
)


def probe(target: str | Path | Header | Folder, hints: Hints | None = None) -> Report:
    """What a file, a folder, a header dump, or headers fetched from elsewhere are. Reads headers only.

    Raises UnreadableModel where the bytes are no model or not whole; everything else, pickles and unknown files
    included, is an answer.
    """
    if isinstance(target, (str, Path)):
        path = Path(target)
        # The file's own name is no hint unless the caller says so: people and downloads rename files.
        found, told = read_target(path)
        return replace(probe(found, told if hints is None else hints), source=str(path))
    if isinstance(target, Folder):
        return _probe_folder(target, hints or Hints())
    return _probe_header(target, hints or Hints())


def _probe_header(header: Header, hints: Hints, scheduler: Mapping[str, Any] | None = None) -> Report:
    if header.format in _PICKLES:
        return Report(Outcome.UNUSABLE, ADVICE, format=header.format)
    if not header.tensors:
        return Report(Outcome.UNKNOWN, _EMPTY, format=header.format)
    subject = Subject(header, hints)
    attempts = list(match_all(SIGNATURES, subject))
    report = _judge(subject, attempts, scheduler)
    return replace(report, format=header.format)


def _judge(subject: Subject, attempts: Sequence[Match], scheduler: Mapping[str, Any] | None) -> Report:
    matches = [match for match in attempts if match.ok]
    if not matches:
        return _unknown(subject)
    near = _near_misses(attempts)
    if subject.adapter.orphans and any(match.signature.kind is Kind.LORA for match in matches):
        return _orphaned(subject.adapter)
    chosen, why = _choose(subject, matches)
    if chosen is None:
        return _ambiguous(subject, sorted(matches, key=lambda match: _name(match.signature)))
    if chosen.signature.kind is Kind.LORA:
        return _lora(subject, chosen, (*why, *near))
    return _checkpoint(subject, chosen, (*why, *near), scheduler)


def _ambiguous(subject: Subject, matches: Sequence[Match]) -> Report:
    names = tuple(dict.fromkeys(_name(match.signature) for match in matches))
    families = {match.signature.family for match in matches}
    kind = _common(match.signature.kind for match in matches)
    said = sorted({claim.source for claim in subject.claims if claim.family in families})
    which = f"{_list(said)} name more than one of them" if said else "nothing in the file or beside it says which"
    remedy = _SAY_WHICH.format(matches[0].signature.family) if kind else _REPORT_IT
    return Report(
        Outcome.AMBIGUOUS,
        f"The shapes fit {_list(names)} alike, and {which}. {remedy}",
        kind=kind,
        candidates=names,
        evidence=tuple(evidence for match in matches for evidence in match.evidence),
    )


def _choose(subject: Subject, matches: Sequence[Match]) -> tuple[Match | None, tuple[Evidence, ...]]:
    """The one match, or the one among several families of a kind that the most trustworthy claim names."""
    if len({(m.signature.kind, m.signature.family) for m in matches}) == 1:
        return matches[0], ()
    if len({m.signature.kind for m in matches}) == 1:
        by_family = {m.signature.family: m for m in reversed(matches)}
        claims = [claim for claim in subject.claims if claim.family in by_family]
        if claims and len({claim.family for claim in claims if claim.source == claims[0].source}) == 1:
            best = claims[0]
            said = Evidence(
                "claimed", True, best.source, f"one of {_list(sorted(f or '' for f in by_family))}", best.said
            )
            return by_family[best.family], (said,)
    return None, ()


def _checkpoint(
    subject: Subject, match: Match, more: tuple[Evidence, ...], scheduler: Mapping[str, Any] | None
) -> Report:
    signature = match.signature
    told = prediction_type(subject, scheduler) if signature.kind is Kind.CHECKPOINT else None
    evidence = (*match.evidence, *((told[1],) if told else ()), *more)
    tags, tag_evidence = _tags(subject, signature)
    what = _name(signature)
    return Report(
        Outcome.IDENTIFIED,
        f"{what}: {_because(match)}.",
        kind=signature.kind,
        family=signature.family,
        variant=signature.variant_in(match, subject),
        prediction_type=told[0] if told else None,
        default_prediction_type=signature.prediction_type,
        layout=signature.layout,
        tags=tags,
        traits=_guidance_embedded(subject, match),
        evidence=(*evidence, *tag_evidence),
    )


def _guidance_embedded(subject: Subject, match: Match) -> tuple[Trait, ...]:
    """A UNet that takes the guidance scale as an input was distilled with it; of the published ones, by latent
    consistency."""
    view = subject.under(match.root)
    key = next((k for k in ("time_embed.cond_proj.weight", "time_embedding.cond_proj.weight") if view.shape(k)), None)
    return (
        ()
        if key is None
        else (Trait("lcm", 0.7, (Evidence("has", True, match.root + key, "guidance embedding", "present"),)),)
    )


def _lora(subject: Subject, match: Match, more: tuple[Evidence, ...]) -> Report:
    signature, adapter = match.signature, subject.adapter
    weighed = weigh(subject)
    kind, outcome, reason = _kind_of_lora(weighed, match)
    tags, tag_evidence = _tags(subject, signature)
    told = prediction_type(subject, None)
    ranks = Counter(m.rank for m in adapter.modules if m.rank is not None)
    return Report(
        outcome,
        reason,
        kind=kind,
        family=signature.family,
        variant=signature.variant,
        prediction_type=told[0] if told else None,
        layout=_layout(adapter),
        rank=ranks.most_common(1)[0][0] if ranks else None,
        candidates=("lora", "lcm_lora") if outcome is Outcome.AMBIGUOUS else (),
        tags=tags,
        traits=weighed.traits,
        evidence=(*match.evidence, weighed.layout, *((told[1],) if told else ()), *more, *tag_evidence),
    )


def _kind_of_lora(weighed: Weighed, match: Match) -> tuple[Kind | None, Outcome, str]:
    """LoRA or LCM-LoRA: structure must allow the latter and a name must say it, more clearly than any other
    acceleration."""
    family = match.signature.family
    because = _because(match) + _look_alikes(match)
    lora = (Kind.LORA, Outcome.IDENTIFIED, f"{family} LoRA: {because}.")
    if not weighed.layout.ok:
        return lora
    best = weighed.best()
    if best is None or best.confidence < DECIDED:
        if weighed.strict:
            return (
                None, Outcome.AMBIGUOUS,
                f"A LoRA for {family} ({because}), laid out as LCM-LoRA, TCD, Lightning and other few-step distillations are, and "
                "as a LoCon of rank 64 can be. " + _SAY_ACCELERATION,
            )  # fmt: skip
        return lora
    second = max((t.confidence for t in weighed.traits[1:]), default=0.0)
    if best.confidence - second < MARGIN:
        names = _list([t.name for t in weighed.traits if t.confidence > best.confidence - MARGIN])
        return (
            None,
            Outcome.AMBIGUOUS,
            f"A LoRA for {family} ({because}) of a few-step layout that is said to be {names} alike. {_SAY_ACCELERATION}",
        )
    if best.name != "lcm":
        return (
            Kind.LORA,
            Outcome.IDENTIFIED,
            f"{family} LoRA: {because}; {best.name} acceleration by its {best.evidence[0].key}.",
        )
    return (
        Kind.LCM_LORA,
        Outcome.IDENTIFIED,
        f"{family} LCM-LoRA: {because}; laid out as few-step distillations are, and said to be LCM by its {best.evidence[0].key}.",
    )


def _look_alikes(match: Match) -> str:
    """Families whose LoRAs cannot be told from this one's by their layers, and that nothing names."""
    alike = [str(evidence.expected) for evidence in match.evidence if evidence.rule == "not_claimed"]
    return f", and it is {_list(alike)}, whose LoRAs have the same layers" if alike else ""


def _layout(adapter: Adapter) -> str | None:
    """The naming that the file's writer used; LyCORIS' own kinds, where there are any, before names."""
    if any(m.kind in _LYCORIS for m in adapter.modules):
        return "lycoris"
    for layout in (
        "xlabs",
        "diffusers",
        "peft",
        "kohya",
        "lycoris",
    ):  # diffusers' saver keeps PEFT's names for all but attention
        if layout in adapter.layouts:
            return layout
    return None


def _tags(subject: Subject, signature: Signature) -> tuple[tuple[str, ...], tuple[Evidence, ...]]:
    if signature.family != "sdxl":
        return (), ()
    sayings = [(key, subject.metadata[key]) for key in _TAG_KEYS if key in subject.metadata]
    sayings += [("card base_model", base) for base in texts((subject.hints.card or {}).get("base_model"))]
    sayings += [
        (f"sidecar {key}", said) for key in SIDECAR_KEYS for said in texts((subject.hints.sidecar or {}).get(key))
    ]
    sayings += [(s, n) for s, n in (("repository", subject.hints.repo_id), ("file name", subject.hints.filename)) if n]
    evidence = []
    for tag, pattern in TAGS.items():
        said = next(((source, text) for source, text in sayings if pattern.search(text)), None)
        if said is not None:
            evidence.append(Evidence("tag", True, said[0], tag, said[1][:120]))
    return tuple(e.expected or "" for e in evidence), tuple(evidence)


# --- answers that name no family ---


def _unknown(subject: Subject) -> Report:
    adapter = subject.adapter
    if adapter.orphans and not adapter.others:
        return _orphaned(adapter)
    if adapter.modules and not adapter.others:
        example = min(adapter.modules, key=lambda module: module.path)
        such = f"such as {example.path}, {example.inner} -> {example.outer}"
        reason = f"An adapter of {len(adapter.modules)} modules ({such}) that fits no known family."
    elif adapter.modules:
        such = f"such as {min(adapter.others)}"
        reason = f"{len(adapter.modules)} adapter modules beside {len(adapter.others)} other tensors ({such}): no known layout."
    else:
        such = f"such as {min(subject.header.tensors)}"
        reason = f"No known layout has these {len(subject.header.tensors)} tensors ({such})."
    _, near = likenesses(subject)
    if near:
        against = "; ".join(sentence(refuted.evidence) for refuted in near[0].refuted[:_TOLD])
        reason += f" Closest: {near[0].name}, but {against}."
    evidence = tuple(replace(like.refuted[0].evidence, rule=f"not {like.name}") for like in near[:_NEAR])
    return Report(Outcome.UNKNOWN, f"{reason} {_REPORT_IT}", evidence=evidence)


def _orphaned(adapter: Adapter) -> Report:
    lost = adapter.orphans[0]
    return Report(
        Outcome.UNUSABLE,
        f"{len(adapter.orphans)} adapter modules lack a half, {lost} among them: the file was cut or badly converted. "
        "Download it again.",
        evidence=(Evidence("pairs", False, lost, "both halves of every pair", "one half"),),
    )


def _near_misses(attempts: Iterable[Match]) -> tuple[Evidence, ...]:
    """For the failed signatures that held longest, at least for two rules: the evidence that ruled them out, named by
    the signature."""
    failed = [match for match in attempts if not match.ok and len(match.evidence) > 2]
    failed.sort(key=lambda match: (-len(match.evidence), _name(match.signature), match.signature.layout or ""))
    told = {f"not {_name(m.signature)}": m.evidence[-1] for m in reversed(failed)}
    named = [replace(told[name], rule=name) for name in dict.fromkeys(f"not {_name(m.signature)}" for m in failed)]
    return tuple(named[:_NEAR])


def _name(signature: Signature) -> str:
    return " ".join(part for part in (signature.family, signature.kind.value) if part)


def _because(match: Match) -> str:
    """The evidence that says most, in words: widths and cross-attention before presence."""
    telling = (e for e in match.evidence if e.rule in ("width", "cross_attention", "fits"))
    return sentence(next(telling, match.evidence[0]))


def _common(kinds: Iterable[Kind]) -> Kind | None:
    found = set(kinds)
    return found.pop() if len(found) == 1 else None


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


# --- folders ---


def _probe_folder(folder: Folder, hints: Hints) -> Report:
    peft = folder.index is not None and "peft_type" in folder.index
    form = "peft folder" if peft else "diffusers folder" if folder.index is not None else "folder"
    judge = _probe_component if peft or folder.index is None else _probe_pipeline
    return replace(judge(folder, hints), format=form)


def _probe_component(folder: Folder, hints: Hints) -> Report:
    """A folder with one weight file; PEFT's adapter_config names the base, which counts as the card's base_model
    does."""
    header = folder.headers.get("")
    if header is None:
        return Report(Outcome.UNUSABLE, ADVICE if "" in folder.pickles else _NO_WEIGHTS)
    base = (folder.index or {}).get("base_model_name_or_path")
    if isinstance(base, str) and base and not (hints.card or {}).get("base_model"):
        hints = replace(hints, card={**(hints.card or {}), "base_model": base})
    return _probe_header(header, hints)


def _probe_pipeline(folder: Folder, hints: Hints) -> Report:
    index = folder.index or {}
    pipeline = str(index.get("_class_name"))
    component = next((name for name in DENOISERS if name in folder.headers), None)
    if component is None:
        if set(DENOISERS) & set(folder.pickles):
            return Report(Outcome.UNUSABLE, ADVICE)
        return Report(
            Outcome.UNUSABLE,
            f"The {pipeline} folder has no weights of a unet or transformer. Download it again, sub-folders included.",
        )
    report = _probe_header(folder.headers[component], hints, folder.configs.get("scheduler"))
    seen = Evidence("pipeline", True, "model_index.json", f"a pipeline with a {component}", pipeline)
    return replace(report, evidence=(seen, *report.evidence))
