"""PNG files that say how they were made, in the text chunk that Stable Diffusion WebUI introduced and every reader understands."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from registry.backends.schedulers import SCHEDULERS
from registry.recipes import Plan, PlannedAdapter


def encode_png(image: Image.Image, plan: Plan, seed: int, hashes: Mapping[str, str]) -> bytes:
    """`hashes`: model name -> hex digest: SHA-256 of the checkpoint, AutoV3 of each LoRA."""
    info = PngInfo()
    info.add_text("parameters", infotext(plan, seed, hashes))
    info.add_text("modelshelf", json.dumps(plan.as_dict() | {"seed": seed}))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def infotext(plan: Plan, seed: int, hashes: Mapping[str, str]) -> str:
    """Three lines: the prompt with its LoRAs as `<lora:name:weight>` (or `<lora:name:text encoder's:denoiser's>`), the negative
    prompt, the settings.

    Checkpoint hashes are written with 10 digits, LoRA hashes with 12, as A1111 does.
    """
    tags = "".join(f" <lora:{a.name}:{_weights(a)}>" for a in plan.adapters)
    settings = {
        "Steps": plan.steps.value,
        "Sampler": SCHEDULERS[plan.scheduler.value].label,
        "CFG scale": f"{plan.cfg.value:g}",
        "Seed": seed,
        "Size": f"{plan.width.value}x{plan.height.value}",
        "Model hash": hashes.get(plan.checkpoint_name, "")[:10],
        "Model": plan.checkpoint_name,
        "Lora hashes": ", ".join(f"{a.name}: {hashes[a.name][:12]}" for a in plan.adapters if hashes.get(a.name)),
        "Version": "modelshelf",
    }
    line = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in settings.items() if str(value))
    negative = f"Negative prompt: {plan.negative_prompt}\n" if plan.negative_prompt else ""
    return f"{plan.prompt}{tags}\n{negative}{line}"


def _weights(adapter: PlannedAdapter) -> str:
    text = f"{adapter.text_weight.value:g}:" if adapter.text_weight else ""
    return f"{text}{adapter.weight.value:g}"


def _quoted(value: str) -> str:
    """A value that holds a separator of the format is JSON-quoted."""
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ",:\n") else value
