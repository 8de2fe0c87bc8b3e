"""Does this adapter fit this checkpoint? Decided tensor by tensor from the two headers; no tensor is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from probes import Header, TensorSpec, UnreadableModel, read_header
from registry.errors import NotGenerable, UnusableFile
from registry.models import Model
from registry.weights.algorithms import NUMBERS, Algorithm, Shape, Unrecognised, plain, recognise
from registry.weights.files import Lent, weight_files
from registry.weights.modules import Target, bias_of, place
from registry.weights.names import canonical_sources
from registry.weights.transformers import transformer_of

_NAMED = 3
"""How many misfits the reason names; all of them are in `Fit.problems`."""


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
        """A verdict that needed no tensor."""
        return cls(False, reason, 0, 0)

    @classmethod
    def strangers(cls, adapter: Model, checkpoint: Model) -> Fit:
        return cls.refused(f"{adapter.name} is for {adapter.family}, {checkpoint.name} is {checkpoint.family}")

    @classmethod
    def gone(cls, path: Path) -> Fit:
        return cls.refused(f"{path} is gone; install it again, or scan the folder it is in now")

    @classmethod
    def by_family(cls, family: str) -> Fit:
        """Of a checkpoint whose tensor names are of no known layout: its family is all that can be compared, and the reason says so."""
        return cls(True, f"both are {family}; tensors of this family are not compared yet", 0, 0)


def judge(adapter: Header, family: str, tensors: Callable[[], Mapping[str, TensorSpec]]) -> Fit:
    """An adapter with a checkpoint of its `family`, whose `tensors` are those of `checkpoint_tensors`, and its errors if it cannot be read.

    Raises UnusableFile.
    """
    try:
        return check_fit(adapter, tensors())
    except NotGenerable:
        return Fit.by_family(family)


def checkpoint_tensors(path: Path, lent: Sequence[Lent] = ()) -> Mapping[str, TensorSpec]:
    """Canonical tensor name -> dtype and canonical shape, for a diffusers folder or a single file, and what it is `lent`, from the headers
    alone.

    Raises UnusableFile: a file cannot be read. NotGenerable: no tensor names of a known layout; Stable Diffusion 1, 2, 3 and XL, and FLUX.1
    are known.
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
    modules = {
        name.removeprefix("transformer.").removesuffix(".weight") for name in found if name.startswith("transformer.")
    }
    if not found or (modules and transformer_of(modules) is None):
        raise NotGenerable(f"The tensor names in {path.name} belong to no layout that is known here.", path=str(path))
    for other in lent:
        found |= {name: spec for name, spec in checkpoint_tensors(other.path).items() if other.lends(name)}
    return found


def check_fit(adapter: Header, checkpoint: Mapping[str, TensorSpec]) -> Fit:
    """Whether every tensor of `adapter` has its place in `checkpoint` (see `checkpoint_tensors`), and every shape agrees."""
    layers, unplaced = place(adapter.tensors, checkpoint.keys())
    problems = [Misfit(key, None, problem) for key, problem in unplaced.items()]
    for target, parts in layers.items():
        problems += _check_layer(
            target, {part: (key, adapter.tensors[key].shape) for part, key in parts.items()}, checkpoint
        )
    total = len(adapter.tensors)
    matched = total - len({problem.tensor for problem in problems})
    if problems or not layers:
        return Fit(False, _reason(problems, total), matched, total, tuple(problems))
    return Fit(True, f"all {total} tensors fit ({len(layers)} layers)", matched, total)


Parts = Mapping[str, tuple[str, tuple[int, ...]]]  # part -> (key, shape)


def _check_layer(target: Target, parts: Parts, checkpoint: Mapping[str, TensorSpec]) -> list[Misfit]:
    """Every misfit of one layer, each blamed on a tensor (all that bear its shape, where they disagree with the base)."""
    weight = " + ".join(target)
    algorithm = recognise(parts)
    if isinstance(algorithm, Unrecognised):
        return [Misfit(parts[part][0], weight, algorithm.problem) for part in sorted(algorithm.parts)]
    shapes = {part: shape for part, (_, shape) in parts.items()}
    base = stacked([checkpoint[name].shape for name in target])
    problems = [
        Misfit(parts[part][0], weight, problem)
        for part, problem in _check_sides(algorithm, shapes, base, [_bias(name, checkpoint) for name in target]).items()
    ]
    wanted = algorithm.wants(shapes, base)
    if wanted is None or plain(wanted) != plain(base):
        change = _layer(wanted) if wanted else _parts(shapes, algorithm)
        problems += [
            Misfit(key, weight, f"wants {change}, the checkpoint has {_layer(base)}")
            for part, (key, _) in parts.items()
            if part in _shaping(algorithm)
        ]
    return problems


def _check_sides(
    algorithm: Algorithm, shapes: Mapping[str, Shape], base: Shape, biases: list[Shape | None]
) -> dict[str, str]:
    """Part -> problem, for the parts beside those that make the change."""
    problems = {}
    for part in shapes.keys() & NUMBERS:
        if prod(shapes[part]) != 1:
            problems[part] = f"{part} must be one number, not {_text(shapes[part])}"
    for part in shapes.keys() & {"dora_scale", "magnitude", "rescale"}:
        sides = base[:1] if part != "dora_scale" else base[:2]
        if prod(shapes[part]) not in sides:
            problems[part] = f"{_text(shapes[part])} is no magnitude of {_layer(base)}"
    for part in shapes.keys() & algorithm.biases | shapes.keys() & {"diff_b"}:
        if None in biases:
            problems[part] = "the checkpoint's layer has no bias"
        elif shapes[part] != base[:1]:
            problems[part] = f"wants a bias of {_text(shapes[part])}, the checkpoint has {_text(base[:1])}"
    return problems


def _bias(weight: str, checkpoint: Mapping[str, TensorSpec]) -> Shape | None:
    spec = checkpoint.get(bias_of(weight))
    return None if spec is None else spec.shape


def _shaping(algorithm: Algorithm) -> frozenset[str]:
    """The parts whose shapes say what they change."""
    return frozenset().union(*algorithm.needs, algorithm.may & {"mid"}) - {"on_input", "diff_b"}


def stacked(shapes: Sequence[Shape]) -> Shape:
    """The shape of weights that lie one upon the other."""
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _layer(shape: Shape) -> str:
    if len(shape) < 2:
        return _text(shape)
    return f"{shape[1]} -> {shape[0]}" + (f" ({'x'.join(map(str, shape[2:]))} convolution)" if len(shape) == 4 else "")


def _parts(shapes: Mapping[str, Shape], algorithm: Algorithm) -> str:
    said = ", ".join(f"{part} {_text(shape)}" for part, shape in shapes.items() if part in _shaping(algorithm))
    return f"parts that do not fit each other ({said})"


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _reason(problems: list[Misfit], total: int) -> str:
    if not problems:
        return "the file has no adapter tensors"
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
