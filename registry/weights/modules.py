"""Adapter module names: every layout's spelling of a layer -> the canonical base weights that it stands for. Names only, no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from registry.weights.algorithms import split_part
from registry.weights.names import ldm_unet_names

Target = tuple[str, ...]
"""Canonical weights that one adapter layer changes: one, or several that lie one upon the other where the adapter's base has them fused."""


def bias_of(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def place(keys: Iterable[str], base: Collection[str]) -> tuple[dict[Target, dict[str, str]], dict[str, str]]:
    """(target -> part -> key, key -> problem) for an adapter's keys and a base with the canonical names `base`.

    kohya's names have every dot flattened to an underscore and cannot be parsed; they are looked up among the base's own names.
    """
    aliases = _aliases(frozenset(base))
    layers: dict[Target, dict[str, str]] = defaultdict(dict)
    problems: dict[str, str] = {}
    for key in keys:
        if (split := split_part(key)) is None:
            problems[key] = "is no part of an adapter"
            continue
        module, part = split
        if (target := aliases.get(module.replace("base_model.model.", ""))) is None:
            problems[key] = f"the checkpoint has no layer {module}"
        elif part in layers[target]:
            problems[key] = f"is a second {part} part beside {layers[target][part]}"
        else:
            layers[target][part] = key
    for target, parts in list(layers.items()):
        if parts.keys() == {"weight"}:  # IA3's main tensor has the name that an ordinary model's tensors have
            problems[parts["weight"]] = "is no part of an adapter"
            del layers[target]
    return layers, problems


@lru_cache(maxsize=8)
def _aliases(base: frozenset[str]) -> Mapping[str, Target | None]:
    """Every spelling of a module -> its canonical weights; None where one spelling would mean two modules."""
    table: dict[str, Target | None] = {}
    to_ldm = ldm_unet_names(base)
    for weight in sorted(name for name in base if name.endswith(".weight") and not name.startswith("vae.")):
        component, _, module = weight.removesuffix(".weight").partition(".")
        unet = component == "unet"
        spellings = _unet_spellings(module, to_ldm(module)) if unet else _text_spellings(component, module)
        for spelling in spellings:
            table[spelling] = (weight,) if table.get(spelling, (weight,)) == (weight,) else None
    return table


_UNET_KOHYA = ("lora_unet_", "oft_unet_", "lycoris_")
_UNET_DOTTED = ("", "unet.", "diffusion_model.", "model.diffusion_model.")


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _unet_spellings(module: str, ldm: str | None) -> set[str]:
    names = {module, ldm} - {None}
    kohya = {prefix + _flat(name) for name in names if name for prefix in _UNET_KOHYA}
    parent, _, leaf = module.removesuffix(".0").rpartition(".")
    legacy = {f"{parent}.processor.{leaf}", f"{parent}.{leaf}"} if ".attn" in parent else set()
    return kohya | {prefix + name for name in names | legacy if name for prefix in _UNET_DOTTED}


_TEXT_KOHYA = {
    "text_encoder": ("lora_te_", "lora_te1_", "oft_te_", "lycoris_"),
    "text_encoder_2": ("lora_te2_", "lycoris_"),
}
_TEXT_DOTTED = {  # ComfyUI's beside diffusers'
    "text_encoder": ("", "text_encoder.", "text_encoders.clip_l.transformer."),
    "text_encoder_2": ("", "text_encoder_2.", "text_encoders.clip_g.transformer."),
}
_OLD_TEXT_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _text_spellings(component: str, module: str) -> set[str]:
    """`module` starts with `text_model.`, which files written with transformers 5 lack."""
    parent, _, leaf = module.rpartition(".")
    names = {module} | ({f"{parent}.{_OLD_TEXT_NAMES[leaf]}"} if leaf in _OLD_TEXT_NAMES else set())
    names |= {name.removeprefix("text_model.") for name in names}
    kohya = {prefix + _flat(name) for name in names for prefix in _TEXT_KOHYA[component]}
    return kohya | {prefix + name for name in names for prefix in _TEXT_DOTTED[component]}
