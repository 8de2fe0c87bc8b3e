"""Evidence in words: one sentence for each rule, where it holds and where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probes.report import Evidence

SENTENCES: Mapping[str, tuple[str, str]] = {
    # rule: (it holds, it does not); fields of Evidence stand in braces
    "has": ("{key} is there", "{key} is missing"),
    "begins": ("{key} is there", "no name begins with {key}"),
    "without": ("{key} is not there", "{key} is there"),
    "alone": ("there is nothing else in the file", "there is more in the file, such as {key}"),
    "width": ("{key} is {seen} wide", "{key} is {seen} wide, not {expected}"),
    "rows": ("{key} has {seen} rows", "{key} has {seen} rows, not {expected}"),
    "kernel": ("{key} has a kernel of {seen}", "{key} has a kernel of {seen}, not {expected}"),
    "dimensions": ("{key} has {seen} dimensions", "{key} has {seen} dimensions, not {expected}"),
    "volume": ("{key} has {seen} values, {expected}", "{key} has {seen} values, not {expected}"),
    "volumes": (
        "weights that hide their widths have as many values as their layers",
        "{key} has {seen} values, not {expected}",
    ),
    "blocks": ("{key} has {seen} blocks", "{key} has {seen} blocks, not {expected}"),
    "only": ("there is no foreign submodule", "there is a foreign submodule, {key}"),
    "words": ("no name has a foreign part", "names have a foreign part, {key}"),
    "claimed": ("{key} says “{seen}”", "it is not {expected}"),
    "not_claimed": ("it is {expected}", "{key} says “{seen}”"),
    "adapter": ("it is an {expected}", "it has {seen} where an adapter has {expected}"),
    "cross_attention": (
        "cross-attention takes in text of width {seen}",
        "cross-attention takes in text of width {seen}, not {expected}",
    ),
    "paths": ("its modules have the {expected}", "{key} is none of the {expected}"),
    "fits": ("its modules are {expected}: {seen}", "{key} is {seen}, not {expected}"),
    "covers": ("it touches {expected}", "it leaves {key} out and touches such layers elsewhere"),
    "beyond": ("it touches {expected}", "it touches nothing beyond: {seen}"),
    "leaves_out": ("it leaves {key} out", "it touches {expected}"),
    "adapts": ("{key} is one of the {expected}", "it touches none of the {expected}"),
    "text_encoder": (
        "no text encoder has another width than {expected}",
        "text encoder layer {key} is {seen}, not {expected}",
    ),
    "embeddings": ("it is {expected}", "it is more than {expected}"),
    "pairs": ("every pair is whole", "{key} has no other half that fits"),
    "whole": ("it is {expected}", "{key} says “{seen}”, which is not {expected}"),
    "pipeline": ("{key} describes {expected}, {seen}", "{key} does not describe {expected}"),
    "component": ("{key} is {expected}", "{key} is not {expected}, but {seen}"),
    "prediction_type": ("{key} says that it predicts {expected}", "{key} does not say what it predicts"),
    "zero_terminal_snr": (
        "{key} says that it was trained up to noise alone",
        "nothing says that it was trained up to noise alone",
    ),
    "tag": ("{key} says “{seen}”", "nothing says {expected}"),
    "named": ("its {key} says “{seen}”", "nothing says {expected}"),
    "distillation_layout": (
        "it is laid out as few-step distillations are: {expected}",
        "it is not laid out as few-step distillations are: {seen}",
    ),
    "excluded": ("{key} says “{seen}”", "{key} says “{seen}”, but the shapes allow {expected} alone"),
    "overruled": ("{key} says “{seen}”", "{key} says “{seen}”, but the shapes are {expected}'s"),
}
_SEEN: Mapping[tuple[str, str | None], tuple[str, str]] = {
    # (rule, what is seen) where it reads otherwise
    **dict.fromkeys(
        [("width", "absent"), ("width", "not adapted"), ("width", "None")],
        ("{key} is missing", "{key} is missing, which should be {expected} wide"),
    ),
    **dict.fromkeys(
        [("rows", "absent"), ("rows", "None")],
        ("{key} is missing", "{key} is missing, which should have {expected} rows"),
    ),
    **dict.fromkeys(
        [("kernel", "absent"), ("kernel", "None")],
        ("{key} is missing", "{key} is missing, which should have a kernel of {expected}"),
    ),
    ("dimensions", "absent"): ("{key} is missing", "{key} is missing, which should have {expected} dimensions"),
    ("blocks", "0"): ("{key} has no blocks", "{key} has no blocks, not {expected}"),
    ("volumes", "none"): ("no weight hides its widths", ""),
    ("cross_attention", "none"): (
        "no cross-attention is adapted",
        "no cross-attention is adapted, which should be of width {expected}",
    ),
    ("fits", "no such layer"): ("", "{key} is not {expected}"),
    ("fits", "no layer is adapted"): ("", "there are none of the {expected}"),
}
_EXPECTED: Mapping[tuple[str, str | None], tuple[str, str]] = {
    # (rule, what is expected) where it reads otherwise
    ("blocks", "0"): ("{key} has no blocks", "{key} has {seen} blocks, not none"),
    ("text_encoder", ""): ("no text encoder is adapted", "text encoder layer {key} is adapted"),
}
_LONGEST = 300
"""Characters; tensors of published files have names of a hundred at most."""
_PLAINLY = ("{rule}: {key} is {seen}", "{rule}: {key} is {seen}, not {expected}")


def sentence(evidence: Evidence) -> str:
    """What a piece of evidence says, without a full stop; a rule that has no sentence is told by its values."""
    rule = evidence.rule
    special = _SEEN.get((rule, evidence.seen)) or _EXPECTED.get((rule, evidence.expected))
    held, failed = special or SENTENCES.get(rule, _PLAINLY)
    values = {name: shortened(getattr(evidence, name)) for name in ("rule", "key", "expected", "seen")}
    return (held if evidence.ok else failed).format_map(values)


def shortened(name: str | None) -> str | None:
    """A tensor's name or other words of a file's for a sentence: a forged one can have megabytes."""
    return name if name is None or len(name) <= _LONGEST else f"{name[:_LONGEST]}..."


def counted(number: int, thing: str) -> str:
    """`1 tensor`, `2 tensors`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listed(names: Sequence[str]) -> str:
    """Names joined as in a sentence; at least one."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
