"""LoRAs named in a prompt: `<lora:name:weight>`, or `<lora:name:text encoders':denoiser's>`, the notation of Stable Diffusion WebUI;
`lyco` is its older word for a LoRA in one of LyCORIS' forms.

Left out, the first weight is 1 and the second as the first: it is that program's notation, so its rule holds, and not our recipes.
https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#extra-networks
"""

from __future__ import annotations

import re
from dataclasses import replace

from registry.errors import InvalidRequest
from registry.plans import AdapterRequest, GenerationRequest

_TAG = re.compile(r"\s*<(?:lora|lyco):([^<>:]+)((?::[^<>:]*)*)>")
_HYPERNETWORK = re.compile(r"<hypernet:[^<>]+>")
_EMPHASIS = re.compile(r"\([^()]*:\s*[\d.]+\s*\)|\[[^\[\]]*[|:][^\[\]]*\]")


def with_tags_read(request: GenerationRequest) -> GenerationRequest:
    """The tags of its prompt are among its LoRAs, after those that it names anyway, and no longer in the prompt. Raises InvalidRequest."""
    found: list[AdapterRequest] = []

    def take(tag: re.Match[str]) -> str:
        found.append(_adapter(tag[0].strip(), tag[1].strip(), tag[2].split(":")[1:]))
        return ""

    if hypernetwork := _HYPERNETWORK.search(request.prompt):  # as text it would draw something else, and say nothing
        raise InvalidRequest(f"{hypernetwork[0]}: hypernetworks cannot be put on; leave it out.", field="prompt")
    prompt = _TAG.sub(take, request.prompt)
    return replace(request, prompt=prompt.strip(), loras=(*request.loras, *found)) if found else request


def emphasis(prompt: str) -> str | None:
    """The first passage in WebUI's notation for weighted words, `(red:1.3)`, or changing ones, `[red|blue]`: read as plain text here."""
    found = _EMPHASIS.search(prompt)
    return found[0] if found else None


def _adapter(tag: str, name: str, weights: list[str]) -> AdapterRequest:
    try:
        text, denoiser = ([float(weight) for weight in weights] * 2)[:2] if weights else (1.0, 1.0)
    except ValueError as error:
        raise InvalidRequest(f"{tag} has a weight that is no number.", field="prompt") from error
    if len(weights) > 2:
        raise InvalidRequest(f"{tag} has {len(weights)} weights; two at most can be given.", field="prompt")
    return AdapterRequest(name, denoiser, None if text == denoiser else text)
