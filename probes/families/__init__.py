"""Every family, one file each. Adding one: its file of SIGNATURES, its line in FAMILIES, its fixture."""

from __future__ import annotations

from probes.families import (
    anima,
    auraflow,
    bria_fibo,
    checkpoints,
    chroma,
    cogvideox,
    cogview4,
    cosmos,
    ernie_image,
    flux1,
    flux2,
    flux3,
    glm_image,
    hidream,
    hunyuan_dit,
    hunyuan_image,
    hunyuan_video,
    hunyuan_video15,
    ideogram4,
    kandinsky5,
    krea2,
    longcat_image,
    ltx2,
    ltx_video,
    lumina2,
    minimax_h3,
    mochi,
    omnigen2,
    others,
    ovis_image,
    pixart,
    qwen_image,
    qwen_image21,
    sana,
    sd1,
    sd2,
    sd3,
    sdxl,
    sound,
    tools,
    wan,
    z_image,
)  # fmt: skip
from probes.signature import Signature

FAMILIES = (
    sd1, sd2, sdxl, sd3, flux1, flux2, chroma, longcat_image, ovis_image, bria_fibo, qwen_image, z_image, wan, hunyuan_video,
    hunyuan_video15, hunyuan_image, hunyuan_dit, ltx_video, ltx2, pixart, lumina2, auraflow, hidream, cogview4, glm_image, cosmos, anima,
    ernie_image, minimax_h3, qwen_image21, flux3, krea2, ideogram4, kandinsky5, omnigen2, sana, cogvideox, mochi, checkpoints, others,
    tools, sound,
)  # fmt: skip
SIGNATURES: tuple[Signature, ...] = tuple(signature for family in FAMILIES for signature in family.SIGNATURES)
NAMES: tuple[str, ...] = tuple(sorted({signature.family for signature in SIGNATURES if signature.family}))
