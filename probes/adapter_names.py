"""What an adapter's tensor names say by themselves: which belong to one module, where it is, and what each is of it.

Paths are flattened (`down_blocks_0_attentions_0_..._to_q`): kohya writes them so, and dots can be turned into
underscores but not back. The names of the parts are those of kohya sd-scripts, diffusers, PEFT, LyCORIS and XLabs; see
PARTS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from probes.names import remembered

# Kinds of adaptation: LyCORIS' names, where it has one.
LORA, LOHA, LOKR, FULL, GLORA, OFT, BOFT, IA3, NORM, HRA, VERA = (
    "lora",
    "loha",
    "lokr",
    "full",
    "glora",
    "oft",
    "boft",
    "ia3",
    "norm",
    "hra",
    "vera",
)

PARTS: Mapping[str, tuple[str, str, str]] = {
    # name after the module: (kind, part, layout that writes it so; "" where several do)
    "lora_down.weight": (LORA, "down", "kohya"),
    "lora_up.weight": (LORA, "up", "kohya"),
    "lora_mid.weight": (LORA, "mid", "kohya"),
    "lora.down.weight": (LORA, "down", "diffusers"),
    "lora.up.weight": (LORA, "up", "diffusers"),
    "lora_linear_layer.down.weight": (LORA, "down", "diffusers"),
    "lora_linear_layer.up.weight": (LORA, "up", "diffusers"),
    "lora_A.weight": (LORA, "down", "peft"),
    "lora_B.weight": (LORA, "up", "peft"),
    **{
        f"lora_{name}": (LORA, part, "peft") for name, part in (("A", "down"), ("B", "up"), ("E", "values"))
    },  # AdaLoRA's
    "lora_A.bias": (LORA, "bias", "peft"),
    "lora_B.bias": (LORA, "bias", "peft"),
    "lora_up.bias": (LORA, "bias", "kohya"),
    "lora_embedding_A": (LORA, "embedding_down", "peft"),
    "lora_embedding_B": (LORA, "embedding_up", "peft"),
    "lora_magnitude_vector": (LORA, "dora", "peft"),
    "lora_magnitude_vector.weight": (LORA, "dora", "peft"),
    "dora_scale": ("", "dora", ""),
    "magnitude": ("", "dora", ""),  # ai-toolkit's name of it
    "alpha": ("", "alpha", ""),
    "scalar": ("", "alpha", ""),
    **{f"hada_{part}": (LOHA, part, "lycoris") for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{part}": (LOKR, part, "lycoris") for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t1", "t2")},
    "diff": (FULL, "diff", "lycoris"),
    "diff_m": (FULL, "diff", "lycoris"),  # of a table: Kijai's extractions of Wan
    "diff_b": (FULL, "bias", "lycoris"),
    **{f"{part}.weight": (GLORA, part, "lycoris") for part in ("a1", "a2", "b1", "b2", "bm")},
    "oft_blocks": (OFT, "blocks", "lycoris"),
    **{
        f"oft_blocks.{part}": (OFT, f"blocks_{part}", "kohya") for part in range(4)
    },  # of a fused projection: kohya's for FLUX
    "oft_diag": (OFT, "blocks", "lycoris"),
    "oft_R.weight": (OFT, "packed", "peft"),
    "rescale": (OFT, "rescale", "lycoris"),
    "boft_R": (BOFT, "turned", "peft"),
    "boft_s": (BOFT, "scaled", "peft"),
    "hra_u": (HRA, "mirrors", "peft"),
    **{f"vera_lambda_{part}": (VERA, part, "peft") for part in "bd"},
    **{
        f"bias_{part}": ("", f"sparse_{part}", "") for part in ("indices", "values", "size")
    },  # what LyCORIS' extraction leaves
    "weight": ("", "scale", ""),  # IA3's beside on_input; by itself a checkpoint's
    "on_input": (IA3, "on_input", "lycoris"),
    "ia3_l": (IA3, "sided", "peft"),
    "w_norm": (NORM, "diff", "lycoris"),
    "b_norm": (NORM, "bias", "lycoris"),
    **{
        f"processor.{layout}.{part}": (LORA, part, layout)
        for layout in ("diffusers", "xlabs")
        for part in ("down", "up")
    },
}
_ADAPTER_NAME = re.compile(r"(lora_[AB]|oft_R)\.[\w-]+\.(weight|bias)")
"""PEFT writes the adapter's own name between part and "weight" in some savings: lora_A.default.weight."""
# diffusers' attention processors (until 0.20) and XLabs' own: the projection's name carries the suffix.
_PROCESSOR = re.compile(
    r"^(?P<block>.+?)\.processor\.(?P<projection>to_[qkv]|to_out|qkv|proj)_lora(?P<stream>[12]?)\.(?P<part>down|up)\.weight$"
)
_XLABS = {
    ("qkv", "1"): "img_attn.qkv",
    ("qkv", "2"): "txt_attn.qkv",
    ("proj", "1"): "img_attn.proj",
    ("proj", "2"): "txt_attn.proj",
}

_SAMPLE = 48
"""How many names, evenly spread, decide whether a header is looked at as an adapter: all of an adapter's names are
telling, but for a few companions, and a checkpoint's thousands need not be taken apart to learn that none is."""

DENOISER, TEXT, LANGUAGE, CONTROL = "denoiser", "text_encoder", "language_model", "controlnet"
PREFIXES: tuple[tuple[str, str], ...] = (
    # (how a module's name starts, component); the first that fits counts, so longer ones stand first
    ("lora_unet_", DENOISER),
    ("lora_transformer_", DENOISER),
    ("lora_clip_", "te1"),  # invoke-training's
    ("lora_te1_", "te1"),
    ("lora_te2_", "te2"),
    ("lora_te3_", "te3"),
    ("lora_te4_", "te4"),
    ("lora_te_", "te"),
    ("lora_te1.", "te1"),
    ("lora_te2.", "te2"),
    ("lora_te.", "te"),
    ("lora_controlnet_", CONTROL),
    ("oft_unet_", DENOISER),
    ("lycoris_", DENOISER),
    ("unet.base_model.model.", DENOISER),
    ("transformer.base_model.model.", DENOISER),
    ("text_encoder.base_model.model.", TEXT),
    ("model.diffusion_model.", DENOISER),
    ("diffusion_model.", DENOISER),
    ("transformer.", DENOISER),
    ("pipe.dit.", DENOISER),
    ("unet.", DENOISER),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder_3.", "text_encoder_3"),
    ("text_encoder_4.", "text_encoder_4"),
    ("text_encoder.", TEXT),
    ("text_encoders.clip_l.transformer.", "te1"),
    ("text_encoders.clip_g.transformer.", "te2"),
    ("text_encoders.t5xxl.transformer.", "te3"),
    *(
        (f"text_encoders.{name}.transformer.", "te")
        for name in ("clip_h", "llama", "qwen25_7b", "gemma2_2b", "qwen3_4b")
    ),
    ("clip_l.", "te1"),  # from here on OMI's, which OneTrainer can write
    ("clip_g.", "te2"),
    ("t5.", "te3"),
    ("base_model.model.unet.", DENOISER),
    ("base_model.model.", ""),
    ("", ""),
)
"""Component "" is told by the path itself, see `_component`."""
_PREFIX = re.compile("|".join(re.escape(prefix) for prefix, _ in PREFIXES))
_COMPONENTS = dict(PREFIXES)
_TEXT_PATH = re.compile(r"^(text_model_)?encoder_layers_\d+_(self_attn|mlp)_|^text_model_")
_LANGUAGE_PATH = re.compile(
    r"^((language_|text_)?model_|transformer_|gpt_neox_|backbone_|decoder_|encoder_)*(layers|layer|h|decoder_layers)_\d+_"
    r"(?!attention_qkv$)"  # Z-Image and Lumina
    r"((self_attn|mlp|attn|attention|self_attention)_(self_)?(q|k|v|o|gate|up|down|qkv|c|query|key|value|dense|kv)(_|$)"
    r"|mixer_(in|x|dt|out)_proj)"
)
_COMPANIONS = ("bundle_emb.", "emb_params", "string_to_param")
_COMPANION_ENDINGS = ("_norm.scale", *(f".norm_{part}.weight" for part in ("q", "k", "added_q", "added_k")))
_COMPANION_NAMES = frozenset(
    {"clip_l", "clip_g", "t5", "t5xxl", "step", "global_step", "base_model.vera_A", "base_model.vera_B"}
)
"""What some trainers put into a LoRA file beside low-rank pairs: new tokens (OneTrainer's bundle_emb, ai-toolkit's clip_l), BFL's
normalisation scales, those that diffusers' control script trains, how long they have trained, the factors that all of VeRA's
layers share."""


class Form(NamedTuple):
    """What the parts of a module say, in their order; the thousand modules of a file have one form or a few.

    `main`: which part's name stands for the module in evidence; `pair`: which parts are the down and up matrices of a plain
    LoRA, all whose shapes say.
    """

    kind: str
    roles: tuple[str, ...]
    distinct: frozenset[str]
    layouts: frozenset[str]
    main: int
    pair: tuple[int, int] | None


@lru_cache(maxsize=512)
def _form(parts: tuple[str, ...]) -> Form:
    kinds, roles, layouts = zip(*(PARTS[part] for part in parts), strict=True)
    # A whole difference beside factors is the bias's (LightX2V's diff_b), whichever stands first in the file.
    kind = next((kind for kind in kinds if kind not in ("", FULL)), FULL if FULL in kinds else "")
    main = roles.index("down") if "down" in roles else 0
    plain = kind == LORA and {"down", "up"} <= set(roles) and not {"mid", "embedding_down"} & set(roles)
    pair = (main, roles.index("up")) if plain else None
    return Form(kind, roles, frozenset(roles), frozenset(filter(None, layouts)), main, pair)


class Place(NamedTuple):
    """Where a module is, by its name, and its tensors' names in the order of `form.roles`."""

    component: str
    path: str
    form: Form
    names: tuple[str, ...]


class Arrangement(NamedTuple):
    """What an adapter's names say by themselves."""

    places: tuple[Place, ...] = ()
    others: tuple[str, ...] = ()
    layouts: frozenset[str] = frozenset()
    kohya_names: bool = False


@remembered
def arrange(names: tuple[str, ...]) -> Arrangement:
    step = len(names) // _SAMPLE + 1
    # Two neighbours each time: where every second name is a plain "weight" (IA3), an even step would meet no other.
    if not any(_telling(name) for name in (*names[::step], *names[1::step])):
        return Arrangement(others=names)
    groups, others = _group(names)
    places: list[Place] = []
    layouts: set[str] = set()
    last = None
    for module, parts in groups.items():
        form, named = _form(tuple(parts)), tuple(parts.values())
        if form is not last:
            last = form
            layouts |= form.layouts
        if not form.kind:
            others.extend(name for part, name in parts.items() if part != "alpha")  # a plain "x.weight"
        else:
            places.append(Place(*_place(module), form, named))
    kohya = any(name.startswith(("lora_", "lycoris_", "oft_")) for name in groups)
    return Arrangement(tuple(places), tuple(others), frozenset(layouts), kohya)


def _group(names: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Module -> part -> a tensor's name; and the names that are no part of an adapter. Companions are left out."""
    groups: dict[str, dict[str, str]] = {}
    others: list[str] = []
    for name in names:
        head, _, last = name.rpartition(".")
        module, _, word = head.rpartition(".")
        part = f"{word}.{last}"
        if module and part in PARTS:  # most names, without a call
            group = groups.get(module)
            if group is not None and part not in group:
                group[part] = name
                continue
        found = _split(name)
        if found is None or found[1] == "weight":
            if name in _COMPANION_NAMES or name.startswith(_COMPANIONS) or name.endswith(_COMPANION_ENDINGS):
                continue
            if found is None:
                others.append(name)
                continue
        module, part = found
        group = groups.get(module)
        if group is not None:
            if group.setdefault(part, name) != name:  # of a second adapter, which PEFT calls by another name
                others.append(name)
        elif not name.startswith(_COMPANIONS):
            groups[module] = {part: name}
    return groups, others


def _telling(name: str) -> bool:
    found = _split(name)
    return found is not None and found[1] != "weight"  # IA3's main tensor is just called so


def _split(name: str) -> tuple[str, str] | None:
    """(module, part: one of PARTS), or None for a tensor that no adapter has. A part has one to three words."""
    head, _, last = name.rpartition(".")
    module, _, word = head.rpartition(".")
    if module:
        part = f"{word}.{last}"
        if part in PARTS:
            return module, part
        outer, _, word = module.rpartition(".")
        if outer:
            part = f"{word}.{part}"
            if part in PARTS:
                return outer, part
            match = _ADAPTER_NAME.fullmatch(part) if word in ("lora_A", "lora_B", "oft_R") else None
            if match is not None:
                return outer, f"{match[1]}.{match[2]}"
        match = _PROCESSOR.match(name) if ".processor." in name else None
        if match is not None:
            return _processor(match)
    return (head, last) if head and last in PARTS else None


def _processor(match: re.Match[str]) -> tuple[str, str]:
    projection, stream, part = match["projection"], match["stream"], match["part"]
    if projection in ("qkv", "proj"):
        return f"{match['block']}.{_XLABS.get((projection, stream), projection)}", f"processor.xlabs.{part}"
    target = "to_out.0" if projection == "to_out" else projection
    return f"{match['block']}.{target}", f"processor.diffusers.{part}"


def _place(module: str) -> tuple[str, str]:
    """(component, flattened path) of a module's name."""
    match = _PREFIX.match(module)
    assert match is not None, "the last prefix fits everything"
    path = module[match.end() :].replace(".", "_").strip("_")  # VideoX-Fun's begin so, TheLastBen's for FLUX.1 end so
    return _COMPONENTS[match.group()] or _component(path), path


def _component(path: str) -> str:
    if _TEXT_PATH.match(path):
        return TEXT
    return LANGUAGE if _LANGUAGE_PATH.match(path) else DENOISER
