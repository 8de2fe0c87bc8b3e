"""Does this adapter fit this checkpoint? Decided tensor by tensor from the two headers; no tensor is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from probes import Header, TensorSpec, UnreadableModel, read_header
from registry.errors import NotGenerable, UnusableFile
from registry.weights.files import weight_files
from registry.weights.names import Role, canonical_sources, resolve, split_role

_NAMED = 3
"""How many misfits the reason names; all of them are in `Fit.problems`."""

_OTHER_ALGORITHMS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "oft_": "OFT",
    "on_input": "IA3",
    "diff": "full difference",
}
"""How the last parts of a key start in algorithms that are recognised but cannot be applied."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing that does not fit: the adapter's tensor, the base weight that it would change (None: there is none), and why."""

    tensor: str
    weight: str | None
    problem: str

    def __str__(self) -> str:
        return f"{self.tensor}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Fit:
    """`matched` of the adapter's `total` tensors fit. `fits` only if all of them do (never a partial application)."""

    fits: bool
    reason: str
    matched: int
    total: int
    problems: tuple[Misfit, ...] = ()

    @classmethod
    def refused(cls, reason: str) -> Fit:
        """A verdict that needed no tensor, such as two different families."""
        return cls(False, reason, 0, 0)


def checkpoint_tensors(path: Path) -> Mapping[str, TensorSpec]:
    """Canonical tensor name -> dtype and canonical shape, for a diffusers folder or a single file, from the headers alone.

    Raises UnusableFile: a file cannot be read. NotGenerable: no tensor names of a known layout (Stable Diffusion 1, 2 and XL are known).
    """
    found: dict[str, TensorSpec] = {}
    for file in weight_files(path):
        try:
            stored = read_header(file.path).tensors
        except UnreadableModel as error:
            raise UnusableFile(f"{file.path.name}: {error}", reason=error.code) from error
        for name, source in canonical_sources(stored, file.component).items():
            spec = stored[source.name]
            found[name] = TensorSpec(spec.dtype, source.shape(spec.shape))
    if not found:
        raise NotGenerable(f"The tensor names in {path.name} belong to no layout that is known here.", path=str(path))
    return found


def check_fit(adapter: Header, checkpoint: Mapping[str, TensorSpec]) -> Fit:
    """Whether every tensor of the LoRA `adapter` has its place in `checkpoint` (see `checkpoint_tensors`), and every shape agrees."""
    problems: list[Misfit] = []
    modules: dict[str, dict[Role, tuple[str, Shape]]] = defaultdict(dict)
    for key, spec in adapter.tensors.items():
        part = resolve(key, checkpoint.keys())
        if part is None:
            problems.append(_unplaced(key))
        elif part.role in modules[part.weight]:
            problems.append(
                Misfit(key, part.weight, f"is a second {part.role} part beside {modules[part.weight][part.role][0]}")
            )
        else:
            modules[part.weight][part.role] = (key, spec.shape)
    for weight, parts in modules.items():
        problems += _check_module(weight, parts, checkpoint[weight].shape)
    total = len(adapter.tensors)
    matched = total - len({problem.tensor for problem in problems})
    if problems or not modules:
        return Fit(False, _reason(problems, total), matched, total, tuple(problems))
    return Fit(True, f"all {total} tensors fit ({len(modules)} layers)", matched, total)


def _unplaced(key: str) -> Misfit:
    if split := split_role(key):
        return Misfit(key, None, f"the checkpoint has no layer {split[0]}")
    last = ".".join(key.split(".")[1:])
    for start, algorithm in _OTHER_ALGORITHMS.items():
        if any(piece.startswith(start) for piece in last.split(".")):
            return Misfit(key, None, f"is {algorithm}, which cannot be applied")
    return Misfit(key, None, "is no part of a LoRA")


def _check_module(weight: str, parts: Mapping[Role, tuple[str, Shape]], base: Shape) -> list[Misfit]:
    """Every misfit of one layer, each blamed on a tensor (all of the layer's, where they disagree with the base)."""
    missing = [role for role in ("down", "up") if role not in parts]
    if missing:
        return [Misfit(key, weight, f"has no {missing[0]} part beside it") for key, _ in parts.values()]
    if len(base) not in (2, 4):
        return [
            Misfit(key, weight, "the checkpoint's layer is neither linear nor a convolution")
            for key, _ in parts.values()
        ]
    shapes = {role: shape for role, (_, shape) in parts.items()}
    down, up, mid = shapes["down"], shapes["up"], shapes.get("mid")
    problems = []
    if "alpha" in parts and prod(shapes["alpha"]) != 1:
        problems.append(Misfit(parts["alpha"][0], weight, f"alpha must be one number, not {_text(shapes['alpha'])}"))
    if _spread(down, up, mid) != _plain(base):
        problems += [
            Misfit(key, weight, f"wants {_change(down, up, mid)}, the checkpoint has {_layer(base)}")
            for role, (key, _) in parts.items()
            if role != "alpha"
        ]
    return problems


def _plain(shape: Shape) -> Shape:
    """A 1x1 convolution counts as a linear layer: kohya stores the one, PEFT the other, for the same layer."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _spread(down: Shape, up: Shape, mid: Shape | None) -> Shape | None:
    """The shape of the weight that the parts change, or None if they do not fit each other.

    down [rank, in] or [rank, in, kh, kw], up [out, rank] or [out, rank, 1, 1]; with mid [rank, rank, kh, kw] down is 1x1.
    """
    down, up = _plain(down), _plain(up)
    if len(up) != 2 or len(down) not in (2, 4):
        return None
    if mid is None:
        return (up[0], *down[1:]) if up[1] == down[0] else None
    if len(mid) != 4 or len(down) != 2 or mid[:2] != (up[1], down[0]):
        return None
    return _plain((up[0], down[1], *mid[2:]))


def _layer(shape: Shape) -> str:
    return f"{shape[1]} -> {shape[0]}" + (f" ({'x'.join(map(str, shape[2:]))} convolution)" if len(shape) == 4 else "")


def _change(down: Shape, up: Shape, mid: Shape | None) -> str:
    spread = _spread(down, up, mid)
    if spread is not None:
        return _layer(spread)
    shapes = [f"down {_text(down)}", *([f"mid {_text(mid)}"] if mid is not None else []), f"up {_text(up)}"]
    return f"parts that do not fit each other ({', '.join(shapes)})"


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _reason(problems: list[Misfit], total: int) -> str:
    if not problems:
        return "the file has no LoRA tensors"
    # A wrong width tells people more than an unknown name, and a layer is named once, not for each of its tensors.
    misshapen = {
        p.weight.removesuffix(".weight"): f"{p.weight.removesuffix('.weight')} {p.problem}"
        for p in problems
        if p.weight
    }
    unplaced = dict.fromkeys(p.problem if "has no layer" in p.problem else str(p) for p in problems if not p.weight)
    said = [*misshapen.values(), *unplaced]
    more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return f"{len({p.tensor for p in problems})} of {total} tensors do not fit: {'; '.join(said[:_NAMED])}{more}"
