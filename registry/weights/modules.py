"""Adapter module names: every layout's spelling of a layer -> the canonical base weights that it stands for. Names only, no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache

from probes.wrappers import plain_name
from registry.weights.algorithms import split_part
from registry.weights.names import ldm_unet_names
from registry.weights.transformers import makers_names

Target = tuple[str, ...]
"""Canonical weights that one adapter layer changes: one, or several that lie one upon the other where the adapter's base has them fused."""


def bias_of(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def place(keys: Iterable[str], base: Collection[str]) -> tuple[dict[Target, dict[str, str]], dict[str, str]]:
    """(target -> part -> key, key -> problem) for an adapter's keys and a base with the canonical names `base`.

    kohya's names have every dot flattened to an underscore and cannot be parsed; they are looked up among the base's own names,
    without the underscore that some trainers begin or end them with, and without what a compiled module is called by.
    """
    aliases = _aliases(frozenset(base))
    layers: dict[Target, dict[str, str]] = defaultdict(dict)
    problems: dict[str, str] = {}
    for key in keys:
        if (split := split_part(key)) is None:
            problems[key] = "is no part of an adapter"
            continue
        module, part = split
        if (target := aliases.get(_plain(module))) is None:
            problems[key] = f"the checkpoint has no layer {module}"
        elif part in layers[target]:
            problems[key] = f"is a second {part} part beside {layers[target][part]}"
        else:
            layers[target][part] = key
    owners: dict[str, Target] = {}
    for target, parts in list(layers.items()):
        for weight in target:
            if owners.setdefault(weight, target) != target:  # fused and by itself in one file
                problems |= dict.fromkeys(parts.values(), f"changes {weight} a second time")
                layers.pop(target, None)
        if parts.keys() == {"weight"}:  # IA3's main tensor has the name that an ordinary model's tensors have
            problems[parts["weight"]] = "is no part of an adapter"
            layers.pop(target, None)
    return layers, problems


def _plain(module: str) -> str:
    return plain_name(module).replace("base_model.model.", "").replace("lora_unet__", "lora_unet_").rstrip("_")


@lru_cache(maxsize=8)
def _aliases(base: frozenset[str]) -> Mapping[str, Target | None]:
    """Every spelling of a module -> its canonical weights; None where one spelling would mean two modules."""
    table: dict[str, Target | None] = {}
    for target, spellings in _spellings(base):
        for spelling in spellings:
            table[spelling] = target if table.get(spelling, target) == target else None
    return table


def _spellings(base: frozenset[str]) -> Iterator[tuple[Target, set[str]]]:
    modules: dict[str, list[str]] = defaultdict(list)
    for name in sorted(base):
        component, _, rest = name.partition(".")
        if rest.endswith(".weight"):
            modules[component].append(rest.removesuffix(".weight"))
    to_ldm = ldm_unet_names(base)
    for module in modules["unet"]:
        yield (f"unet.{module}.weight",), _unet_spellings(module, to_ldm(module))
    for module in modules["transformer"]:
        yield (f"transformer.{module}.weight",), _dotted_and_flat({module})
    for theirs, ours in makers_names(frozenset(modules["transformer"])):
        yield tuple(f"transformer.{module}.weight" for module in ours), _dotted_and_flat({theirs})
    for component in _TEXT_DOTTED:
        for module in modules[component]:
            yield (f"{component}.{module}.weight",), _text_spellings(component, module)


_FLAT = ("lora_unet_", "lora_transformer_", "oft_unet_", "lycoris_")
_DOTTED = ("", "unet.", "transformer.", "diffusion_model.", "model.diffusion_model.")


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _dotted_and_flat(names: set[str]) -> set[str]:
    dotted = {prefix + name for name in names for prefix in _DOTTED}
    return dotted | {prefix + _flat(name) for name in names for prefix in _FLAT}


def _unet_spellings(module: str, ldm: str | None) -> set[str]:
    parent, _, leaf = module.removesuffix(".0").rpartition(".")
    legacy = {f"{parent}.processor.{leaf}", f"{parent}.{leaf}"} if ".attn" in parent else set()
    return _dotted_and_flat({module} | legacy | ({ldm} if ldm else set()))


_TEXT_KOHYA = {
    "text_encoder": ("lora_te_", "lora_te1_", "oft_te_", "lycoris_"),
    "text_encoder_2": ("lora_te2_", "lora_te3_", "lycoris_"),  # FLUX.1's T5, which sd-scripts calls te3 as in SD 3
    "text_encoder_3": ("lora_te3_",),
}
_TEXT_DOTTED = {  # ComfyUI's beside diffusers'
    "text_encoder": ("", "text_encoder.", "text_encoders.clip_l.transformer."),
    "text_encoder_2": ("", "text_encoder_2.", "text_encoders.clip_g.transformer.", "text_encoders.t5xxl.transformer."),
    "text_encoder_3": ("text_encoder_3.", "text_encoders.t5xxl.transformer."),
}
_OLD_TEXT_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _text_spellings(component: str, module: str) -> set[str]:
    """`module` starts with `text_model.`, which files written with transformers 5 lack."""
    parent, _, leaf = module.rpartition(".")
    names = {module} | ({f"{parent}.{_OLD_TEXT_NAMES[leaf]}"} if leaf in _OLD_TEXT_NAMES else set())
    names |= {name.removeprefix("text_model.") for name in names}
    kohya = {prefix + _flat(name) for name in names for prefix in _TEXT_KOHYA[component]}
    return kohya | {prefix + name for name in names for prefix in _TEXT_DOTTED[component]}
