"""Picture files that say how they were made, in the text that Stable Diffusion WebUI introduced and every reader understands."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from registry.backends.schedulers import SCHEDULERS
from registry.errors import InvalidRequest
from registry.plans import Plan, PlannedAdapter

Format = Literal["png", "jpeg", "webp"]

MAX_START_PIXELS = 4096 * 4096
"""Of a picture to start from: the area of the largest picture that can be asked for."""


FORMATS = ("PNG", "JPEG", "WEBP")
"""Pillow has decoders of forty more, of which some run other programs; a picture is a stranger's file."""


@contextmanager
def opened(content: bytes, most: int, *, field: str) -> Iterator[Image.Image]:
    """A picture file of one of FORMATS with at most `most` pixels, whose data the block may read.

    Raises InvalidRequest about `field`: it is none, damaged, or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                raise InvalidRequest(
                    f"The picture has {picture.width}x{picture.height} pixels; at most {most} can be taken.",
                    field=field,
                )
            yield picture
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidRequest(
            "The picture cannot be read: it is no PNG, JPEG or WebP file, or a damaged one.", field=field
        ) from error


def open_picture(content: bytes) -> Image.Image:
    """A picture to start from, as RGB, upright. Raises InvalidRequest."""
    with opened(content, MAX_START_PIXELS, field="image") as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def png_bytes(image: Image.Image) -> bytes:
    """Without parameters: for pictures in the making."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def encode_png(image: Image.Image, plan: Plan, seed: int, hashes: Mapping[str, str]) -> bytes:
    """`hashes`: model name -> hex digest: SHA-256 of the checkpoint, AutoV3 of each LoRA."""
    info = PngInfo()
    info.add_text("parameters", infotext(plan, seed, hashes))
    info.add_text("modelshelf", json.dumps(plan.as_dict() | {"seed": seed}))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def transcode(png: bytes, file_format: Format, quality: int = 100) -> bytes:
    """A file of `encode_png` in another format, with its text as EXIF UserComment, where WebUI puts it in these formats.

    `quality`: 0 to 100, of JPEG and WebP.
    """
    if file_format == "png":
        return png
    exif, buffer = Image.Exif(), io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        text = str(picture.info.get("parameters", ""))
        # "UNICODE" and a zero say how the text is written (Exif 2.32, 4.6.5); readers take it for UTF-16, big end first.
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode("utf-16-be")
        picture.save(buffer, file_format.upper(), quality=quality, exif=exif)
    return buffer.getvalue()


def infotext(plan: Plan, seed: int, hashes: Mapping[str, str]) -> str:
    """Three lines: the prompt with its LoRAs as `<lora:name:weight>` (or `<lora:name:text encoder's:denoiser's>`), the negative
    prompt, the settings.

    Checkpoint hashes are written with 10 digits, LoRA hashes with 12, as A1111 does. They stand there twice: in `Lora hashes`, which A1111
    reads, and in the JSON of `Hashes`, which is Civitai's and the only one that a reader understands that splits the line at its commas.
    """
    short = hashes.get(plan.checkpoint_name, "")[:10]
    loras = {a.name: hashes[a.name][:12] for a in plan.adapters if hashes.get(a.name)}
    tags = "".join(f" <lora:{a.name}:{_weights(a)}>" for a in plan.adapters)
    vae = next((lender for lender in plan.borrowed if "vae" in lender.components), None)
    settings = {
        "Steps": plan.steps.value,
        "Sampler": SCHEDULERS[plan.scheduler.value].label,
        "CFG scale": f"{plan.cfg.value:g}",
        "Seed": seed,
        "Denoising strength": f"{plan.strength.value:g}" if plan.strength else "",
        "Size": f"{plan.width.value}x{plan.height.value}",
        "Model hash": short,
        "Model": plan.checkpoint_name,
        "VAE hash": vae.digest[:10] if vae and vae.digest else "",
        "VAE": vae.name if vae else "",
        "Lora hashes": ", ".join(f"{name}: {digest}" for name, digest in loras.items()),
        "Version": "modelshelf",
    }
    line = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in settings.items() if str(value))
    every = ({"model": short} if short else {}) | {f"lora:{name}": digest for name, digest in loras.items()}
    if every:
        line += f", Hashes: {json.dumps(every, ensure_ascii=False)}"
    negative = f"Negative prompt: {plan.negative_prompt}\n" if plan.negative_prompt else ""
    return f"{plan.prompt}{tags}\n{negative}{line}"


def _weights(adapter: PlannedAdapter) -> str:
    text = f"{adapter.text_weight.value:g}:" if adapter.text_weight else ""
    return f"{text}{adapter.weight.value:g}"


def _quoted(value: str) -> str:
    """A value that holds a separator of the format is JSON-quoted."""
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ",:\n") else value
