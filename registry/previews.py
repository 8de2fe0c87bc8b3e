"""The picture that stands for a model on the shelf: scaled down, written anew, kept under the root by its digest."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import uuid4

from blake3 import blake3
from PIL import Image, UnidentifiedImageError

from registry.errors import FileMissing, InvalidRequest
from registry.models import Model

SIDE = 512  # pixels: twice the width of a card, for displays with two pixels to a point
MAX_BYTES = 16 * 1024 * 1024
MAX_PIXELS = 64_000_000  # beyond any picture that is generated; a small file can claim to be larger than memory
FORMATS = ("PNG", "JPEG", "WEBP")


class Previews:
    """`folder` holds one WebP file a picture; a model's `overrides["preview"]` names its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, picture: bytes) -> str:
        """Digest of the stored picture. Raises InvalidRequest for what is no picture."""
        small = _shrunk(picture)
        digest = blake3(small).hexdigest()[:32]
        path = self._path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{uuid4().hex}.part")
            part.write_bytes(small)
            part.replace(path)
        return digest

    def path(self, model: Model) -> Path:
        """Raises FileMissing when the model has none."""
        digest = model.overrides.get("preview")
        path = self._path(digest) if digest else None
        if path is None or not path.is_file():
            raise FileMissing(f"{model.name} has no preview picture.", model=model.id)
        return path

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.webp"


def _shrunk(picture: bytes) -> bytes:
    try:
        image = Image.open(io.BytesIO(picture), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise InvalidRequest(
                f"The picture has {image.width} x {image.height} pixels, which is too many.", field="body"
            )
        image.draft("RGB", (SIDE, SIDE))
        small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidRequest("That is no PNG, JPEG or WebP picture, or a damaged one.", field="body") from error
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()
