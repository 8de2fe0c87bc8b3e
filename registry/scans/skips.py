"""What a scan passes over, by reason: how many there are, and a few of them by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from probes import Kind, Outcome, Report
from probes.containers.torch_zip import ADVICE

EXAMPLES = 3  # of each reason: enough to recognise a folder of them
BAD_NAME = "bad_name"
"""The reason of a file whose name is no text."""
OUTSIDE = "outside"
"""The reason of what lies behind a link that leads out of the folders that may be asked for over the network."""

_WORDS = {
    **{str(kind): (named, f"{named}s") for kind, named in ((kind, str(kind).replace("_", " ")) for kind in Kind)},
    str(Kind.VAE): ("VAE", "VAEs"),
    str(Kind.CONTROLNET): ("ControlNet", "ControlNets"),
    str(Kind.T2I_ADAPTER): ("T2I adapter", "T2I adapters"),
    str(Kind.IP_ADAPTER): ("IP adapter", "IP adapters"),
    "pickle": ("pickle", "pickles"),
    **dict.fromkeys(("zip_archive", "archive"), ("archive", "archives")),
    "compiled_model": ("compiled model", "compiled models"),
    "html_page": ("web page", "web pages"),
    "text_file": ("text file", "text files"),
    "lfs_pointer": ("Git LFS pointer", "Git LFS pointers"),
    **dict.fromkeys(("truncated", "too_short", "size_mismatch", "hole_in_data"), ("truncated", "truncated")),
    "empty_file": ("empty", "empty"),
    **dict.fromkeys(("not_readable", "not_found"), ("unreadable", "unreadable")),
    OUTSIDE: ("behind a link to where nothing may be read", "behind links to where nothing may be read"),
    BAD_NAME: ("with a name that is not UTF-8", "with names that are not UTF-8"),
    str(Outcome.UNKNOWN): ("not recognised", "not recognised"),
    str(Outcome.AMBIGUOUS): ("ambiguous", "ambiguous"),
    str(Outcome.UNUSABLE): ("without usable weights", "without usable weights"),
}
_MALFORMED = ("malformed", "malformed")  # whatever else makes a header unreadable


@dataclass(frozen=True, slots=True)
class Skip:
    """`reason`: what `reason_of` gives. `examples`: absolute paths, EXAMPLES at most."""

    reason: str
    count: int = 0
    examples: tuple[str, ...] = ()

    def and_(self, path: str) -> Skip:
        return Skip(self.reason, self.count + 1, (*self.examples, path)[:EXAMPLES])


Skips = Mapping[str, Skip]
"""By reason, in the order in which they were met."""


def reason_of(report: Report) -> str:
    """Why a model is not taken: the code of a file that cannot be read, the kind of one that is no LoRA and no checkpoint, else the
    outcome; of pickles, which no outcome tells from other files without usable weights, "pickle"."""
    if unreadable := next((e.seen for e in report.evidence if e.rule == "readable" and e.seen), None):
        return unreadable
    if report.reason == ADVICE:
        return "pickle"
    return str(report.kind) if report.outcome is Outcome.IDENTIFIED else str(report.outcome)


def in_words(skips: Iterable[tuple[str, int, Sequence[str]]]) -> list[tuple[str, int, Sequence[str]]]:
    """Of (reason, count, examples): (`2 pickles`, 2, examples). Reasons that people call the same are one."""
    groups: dict[tuple[str, str], list[tuple[int, Sequence[str]]]] = {}
    for reason, count, examples in skips:
        groups.setdefault(_WORDS.get(reason, _MALFORMED), []).append((count, examples))
    told = (
        (forms, sum(n for n, _ in group), [e for _, some in group for e in some]) for forms, group in groups.items()
    )
    return [(f"{count} {forms[count != 1]}", count, examples[:EXAMPLES]) for forms, count, examples in told]
