"""The picture that stands for a model on the shelf: scaled down, written anew, kept under the root by its digest."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import uuid4

from blake3 import blake3

from registry.errors import FileMissing
from registry.models import Model
from registry.pictures import opened

SIDE = 512  # pixels: twice the width of a card, for displays with two pixels to a point
MAX_BYTES = 16 * 1024 * 1024
MAX_PIXELS = 64_000_000  # beyond any picture that is generated; a small file can claim to be larger than memory


class Previews:
    """`folder` holds one WebP file a picture; `Model.preview` names it, or the file beside the model that it is made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[Path, int], str] = {}  # path and time of pictures beside models -> digest

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
        mark = model.preview
        if mark is None or not (path := self._path(self._beside(Path(mark)) if "/" in mark else mark)).is_file():
            raise FileMissing(f"{model.name} has no preview picture.", model=model.id)
        return path

    def _beside(self, picture: Path) -> str:
        """Digest of a picture that lies beside a model, read when somebody first asks for it. Raises FileMissing, InvalidRequest."""
        try:
            stamp = (picture, picture.stat().st_mtime_ns)
            if stamp not in self._read or not self._path(self._read[stamp]).is_file():
                self._read[stamp] = self.store(read_some(picture, MAX_BYTES))
        except OSError as error:
            raise FileMissing(f"{picture} cannot be read: {error.strerror}.", file=str(picture)) from error
        return self._read[stamp]

    def files(self) -> list[Path]:
        """Every picture's, and half-written ones."""
        return sorted(self.folder.glob("*.*"))

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.webp"


def read_some(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)


def _shrunk(picture: bytes) -> bytes:
    with opened(picture, MAX_PIXELS, field="body") as image:
        image.draft("RGB", (SIDE, SIDE))
        small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()
