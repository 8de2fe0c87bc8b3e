"""Chroma: FLUX.1's blocks with one small network that makes all their modulations; no pooled text. Radiance draws
pixels, through a small field of them at the end."""

from __future__ import annotations

from probes.adapter_rules import AdapterWidth, Adapts, Encoders, LeavesOut
from probes.families import flux1
from probes.families.flux1 import NOT_XLABS, UNMODULATED, WIDTH, unmodulated
from probes.families.transformer import Naming, Transformer, checkpoint, lora, square
from probes.rules import Blocks, Claimed, Has, Width, Without

_LAYER = ("in_layer", "out_layer", "linear_1", "linear_2")  # Chroma's own names, then diffusers'
_GUIDANCE = {
    "distilled_guidance_layer.in_proj": (64, 5120), "distilled_guidance_layer.out_proj": (5120, WIDTH),
    **square(5120, *(f"distilled_guidance_layer.layers.{n}.{part}" for n in range(5) for part in _LAYER)),
}  # fmt: skip


def _shared(naming: Naming) -> Naming:
    shared = unmodulated(naming)
    return Naming(shared.blocks, {**shared.around, **_GUIDANCE}, f"{shared.beside} norms")


BFL, DIFFUSERS = _shared(flux1.BFL), _shared(flux1.DIFFUSERS)
RADIANCE = Naming(
    BFL.blocks,
    BFL.around,
    f"{BFL.beside} img_in_patch nerf_image_embedder embedder nerf_blocks param_generator nerf_final_layer_conv nerf_final_layer conv __x__",
)
CHROMA = Transformer("Chroma", (BFL, DIFFUSERS))
_WITH_MODULATION = r"(double|single)_blocks_|single_transformer_blocks_\d+_proj_"
"""All in BFL's names (kohya, OneTrainer, diffusion-pipe), and the feed-forward of single blocks in diffusers' (ai-toolkit)."""

SIGNATURES = (
    checkpoint(
        "chroma", "bfl", BFL,
        Has("distilled_guidance_layer.in_proj.weight"), Width("double_blocks.0.img_attn.qkv.weight", WIDTH),
        Without("vector_in.in_layer.weight"), Blocks("double_blocks", 19), Blocks("single_blocks", 38),
    ),
    checkpoint(
        "chroma", "bfl", RADIANCE,
        Has("distilled_guidance_layer.in_proj.weight"), Width("double_blocks.0.img_attn.qkv.weight", WIDTH),
        Width("img_in_patch.weight", 3), Blocks("double_blocks", 19), Blocks("single_blocks", 38), variant="radiance",
    ),
    checkpoint(
        "chroma", "diffusers", DIFFUSERS,
        Has("distilled_guidance_layer.in_proj.weight"), Width("transformer_blocks.0.attn.add_q_proj.weight", WIDTH),
        Blocks("transformer_blocks", 19), Blocks("single_transformer_blocks", 38),
    ),
    # The layers that Chroma shares with FLUX.1 have the same names and shapes, so its LoRAs have to be said to be Chroma's, or
    # touch the network that FLUX.1 has not. Or they are one of either's: where layers are adapted that FLUX.1's trainers adapt
    # together with its modulation, and no modulation; and where a few blocks are.
    *(
        lora("chroma", CHROMA, Encoders(te=4096, te1=4096, te3=4096, text_encoder=4096), *evidence)
        for evidence in (
            (Claimed("chroma", "flux-1"),),
            (AdapterWidth("distilled_guidance_layer_in_proj", 64),),
            (NOT_XLABS, Adapts("layers that FLUX.1's trainers adapt with its modulation", _WITH_MODULATION)),
            (NOT_XLABS, LeavesOut(UNMODULATED)),
        )
    ),
)  # fmt: skip
