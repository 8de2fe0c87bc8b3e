"""What a match, several or none come to: reports with a reason and the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from probes.adapter_names import BOFT, GLORA, IA3, LOHA, LOKR, OFT
from probes.adapters import Adapter
from probes.claims import READ, SIDECAR_KEYS, TAGS, sayings, texts
from probes.likeness import likenesses
from probes.predictions import prediction_type, zero_snr
from probes.report import EXCLUDED, USER, Evidence, Hints, Kind, Outcome, Report, Trait, named
from probes.said_variants import said_variant
from probes.signature import Match, Signature
from probes.subject import Subject
from probes.traits import DECIDED, MARGIN, Weighed, weigh
from probes.wording import counted, listed, sentence, shortened

_LYCORIS = {LOHA, LOKR, GLORA, OFT, BOFT, IA3}
_TAG_KEYS = (
    "ss_base_model_version",
    "ss_sd_model_name",
    "modelspec.title",
    "modelspec.architecture",
    "modelspec.merged_from",
)
_COMMON = (
    "sdxl", "sd-1", "flux-1", "wan", "qwen-image", "z-image", "hunyuan-video", "ltx-video", "ltx-2", "sd-3", "chroma", "flux-2", "sd-2",
)  # fmt: skip
"""Families by how many LoRAs are published for them, the most first: which one to propose where several fit."""
_SORTS = (Kind.LORA, Kind.LCM_LORA)
"""What a LoRA of a few-step layout may be."""
_NEAR = 3
"""How many signatures that came closest a report explains."""
_TOLD = 2
"""How many differences from the closest family a reason names."""
_SAY_WHICH = (
    "Say it with --family {0}, in the file's name (as in NAME-{0}.safetensors), or as base_model in a model card (README.md) "
    "beside it."
)
_SAY_ACCELERATION = (
    "Say which with --kind lcm_lora or --kind lora, in the file's name (as in lcm-NAME.safetensors), or in the tags of a model "
    "card (README.md) beside it."
)
_REPORT_IT = (
    "`modelshelf probe --explain` tells more; if it should be known, report it with `--dump-header` (CONTRIBUTING.md)."
)


def checkpoint(
    subject: Subject,
    match: Match,
    more: tuple[Evidence, ...],
    scheduler: Mapping[str, Any] | None,
    unsaid: Sequence[str] = (),
) -> Report:
    """The report of one match that is no LoRA. `unsaid`: families with the same tensors, which it would have to be said to be."""
    signature = match.signature
    predicts, told = (
        prediction_type(subject, signature.family, scheduler) if signature.kind is Kind.CHECKPOINT else (None, ())
    )
    variant, said = said_variant(
        signature.family, signature.variant_in(match, subject), sayings(subject.metadata, subject.hints)
    )
    evidence = (*match.evidence, *said, *told, *zero_snr(subject), *more)
    tags, tag_evidence = _tags(subject, signature)
    what = signature.name
    return Report(
        Outcome.IDENTIFIED,
        f"{what}: {_because(match)}.{_alike(unsaid, 'tensors', 'it is one')}",
        kind=signature.kind,
        family=signature.family,
        variant=variant,
        prediction_type=predicts,
        default_prediction_type=signature.prediction_type,
        layout=signature.layout,
        candidates=_candidates((signature.family, *unsaid), (signature.kind,)),
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


def lora(subject: Subject, match: Match, more: tuple[Evidence, ...], unsaid: Sequence[str] = ()) -> Report:
    """The report of one match that is a LoRA, an LCM-LoRA, or open between the two. `unsaid`: rarer families with the same
    layers, for which it would have to be said to be."""
    signature, adapter = match.signature, subject.adapter
    weighed = weigh(subject)
    said = subject.hints.kind if weighed.layout.ok and subject.hints.kind in _SORTS else None
    kind, outcome, reason = _kind_of_lora(weighed, match, is_said=said is not None)
    chosen = (Evidence("claimed", True, USER, "one of lora and lcm_lora", said),) if said else ()
    them = "that" if len(unsaid) == 1 else "one of those"
    reason += _alike(unsaid, "layers", f"it is for {them}")
    tags, tag_evidence = _tags(subject, signature)
    predicts, told = prediction_type(subject, signature.family, None)
    ranks = Counter(m.rank for m in adapter.modules if m.rank is not None)
    return Report(
        outcome,
        reason,
        kind=kind,
        family=signature.family,
        variant=signature.variant,
        prediction_type=predicts,
        layout=_layout(adapter) or signature.layout,
        rank=ranks.most_common(1)[0][0] if ranks else None,
        candidates=_candidates((signature.family, *unsaid), _SORTS if kind is None else (kind,)),
        tags=tags,
        traits=weighed.traits,
        evidence=(*match.evidence, weighed.layout, *chosen, *told, *more, *tag_evidence),
    )


def _alike(unsaid: Sequence[str], what: str, so: str) -> str:
    """A further sentence on families with the same `what`, or none: that nothing says `so`."""
    if not unsaid:
        return ""
    have = "has" if len(unsaid) == 1 else "have"
    return f" {listed(unsaid)} {have} the same {what}, but nothing says that {so}."


def _candidates(families: Sequence[str | None], kinds: Sequence[Kind]) -> tuple[str, ...]:
    """Each family with each kind, as `name` calls them; none where there is but one."""
    every = tuple(named(kind, family) for family in families for kind in kinds)
    return every if len(every) > 1 else ()


def _kind_of_lora(weighed: Weighed, match: Match, *, is_said: bool) -> tuple[Kind | None, Outcome, str]:
    """LoRA or LCM-LoRA: structure must allow the latter and a name must say it, more clearly than any other
    acceleration. `is_said`: by the user, whose word is weighed and leaves nothing open."""
    family = match.signature.family
    because = _because(match)
    ordinary = (Kind.LORA, Outcome.IDENTIFIED, f"{family} LoRA: {because}.")
    if not weighed.layout.ok:
        return ordinary
    best = weighed.best()
    if best is None or best.confidence < DECIDED:
        if weighed.strict and not is_said:
            return (
                None, Outcome.AMBIGUOUS,
                f"A LoRA for {family} ({because}), laid out as LCM-LoRA, TCD, Lightning and other few-step distillations are, and "
                "as a LoCon of rank 64 can be. " + _SAY_ACCELERATION,
            )  # fmt: skip
        return ordinary
    second = max((t.confidence for t in weighed.traits[1:]), default=0.0)
    if best.confidence - second < MARGIN and not is_said:
        names = listed([t.name for t in weighed.traits if t.confidence > best.confidence - MARGIN])
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


def _layout(adapter: Adapter) -> str | None:
    """The naming that the file's writer used; LyCORIS' own kinds, where there are any, before names."""
    if "lycoris" in adapter.layouts and any(m.kind in _LYCORIS for m in adapter.modules):
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
        said = next(((source, text) for source, text in sayings if pattern.search(text, 0, READ)), None)
        if said is not None:
            evidence.append(Evidence("tag", True, said[0], tag, said[1][:120]))
    return tuple(e.expected or "" for e in evidence), tuple(evidence)


def excluding(report: Report, hints: Hints) -> Report:
    """The report with what the user says in vain: what the shapes allow is the answer still."""
    if report.outcome not in (Outcome.IDENTIFIED, Outcome.AMBIGUOUS):
        return report
    allowed = report.candidates or (named(report.kind, report.family),)
    families, _, kinds = zip(*(each.rpartition(" ") for each in allowed), strict=True)
    said = ((hints.family, families), (hints.kind, kinds))
    words = [word for word, possible in said if word and word not in possible]
    if not words:
        return report
    evidence = (Evidence(EXCLUDED, False, USER, listed(allowed), word) for word in words)
    reason = f"{report.reason} It was said to be {listed(words)}, which the shapes exclude."
    return replace(report, reason=reason, evidence=(*report.evidence, *evidence))


# --- answers that name no family ---


def ambiguous(subject: Subject, matches: Sequence[Match]) -> Report:
    """The report of several matches that nothing decides between."""
    names = tuple(dict.fromkeys(match.signature.name for match in matches))
    families = {match.signature.family for match in matches}
    kind = _common(match.signature.kind for match in matches)
    said = sorted({claim.source for claim in subject.claims if claim.family in families})
    which = f"{listed(said)} name more than one of them" if said else "nothing in the file or beside it says which"
    remedy = _SAY_WHICH.format(likeliest(families)) if kind else _REPORT_IT
    return Report(
        Outcome.AMBIGUOUS,
        f"The shapes fit {listed(names)} alike, and {which}. {remedy}",
        kind=kind,
        candidates=names,
        evidence=tuple(evidence for match in matches for evidence in match.evidence),
    )


def likeliest(families: Collection[str | None]) -> str | None:
    """Of families, the one that most models are made for; the first by name of those that are rare."""
    return min(
        families, key=lambda family: (_COMMON.index(family) if family in _COMMON else len(_COMMON), family or "")
    )


def unknown(subject: Subject) -> Report:
    """The report of a file that nothing matches, with what it comes closest to."""
    adapter = subject.adapter
    if adapter.orphans and not adapter.others:
        return orphaned(adapter)
    if adapter.modules and not adapter.others:
        example = min(adapter.modules, key=lambda module: module.path)
        such = f"such as {shortened(example.path)}, {example.widths}"
        reason = f"An adapter of {counted(len(adapter.modules), 'module')} ({such}) that fits no known family."
    elif adapter.modules:
        such = f"such as {shortened(min(adapter.others))}"
        modules, others = counted(len(adapter.modules), "adapter module"), counted(len(adapter.others), "other tensor")
        reason = f"{modules} beside {others} ({such}): no known layout."
    else:
        such = f"such as {shortened(min(subject.header.tensors))}"
        reason = f"No known layout has its {counted(len(subject.header.tensors), 'tensor')} ({such})."
    _, near = likenesses(subject)
    if near:
        against = "; ".join(sentence(refuted.evidence) for refuted in near[0].refuted[:_TOLD])
        reason += f" Closest: {near[0].name}, but {against}."
    evidence = tuple(replace(like.refuted[0].evidence, rule=f"not {like.name}") for like in near[:_NEAR])
    return Report(Outcome.UNKNOWN, f"{reason} {_REPORT_IT}", evidence=evidence)


def orphaned(adapter: Adapter) -> Report:
    """The report of an adapter with halves of pairs."""
    lost, count = adapter.orphans[0], counted(len(adapter.orphans), "adapter module")
    return Report(
        Outcome.UNUSABLE,
        f"A half is missing, or does not fit the other, in {count}, such as {shortened(lost)}: the file was "
        "cut or badly converted. Download it again.",
        evidence=(Evidence("pairs", False, lost, "both halves of every pair", "one half"),),
    )


def near_misses(matches: Iterable[Match], attempts: Iterable[Match]) -> tuple[Evidence, ...]:
    """For the failed signatures that held longest, at least for two rules: the evidence that ruled them out, named by
    the signature; not for what another signature of `matches` is."""
    is_one = {match.signature.name for match in matches}
    failed = [m for m in attempts if not m.ok and len(m.evidence) > 2 and m.signature.name not in is_one]
    failed.sort(key=lambda match: (-len(match.evidence), match.signature.name, match.signature.layout or ""))
    told = {f"not {m.signature.name}": m.evidence[-1] for m in reversed(failed)}
    named = [replace(told[name], rule=name) for name in dict.fromkeys(f"not {m.signature.name}" for m in failed)]
    return tuple(named[:_NEAR])


def _because(match: Match) -> str:
    """The evidence that says most, in words: widths and cross-attention before presence."""
    telling = (e for e in match.evidence if e.rule in ("width", "volume", "cross_attention", "fits"))
    return sentence(next(telling, match.evidence[0]))


def _common(kinds: Iterable[Kind]) -> Kind | None:
    found = set(kinds)
    return found.pop() if len(found) == 1 else None
