"""A contact sheet: rows of pictures, each row with what made it and how long one picture took."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LABEL, HEAD = 128, 6, 300, 44  # pixels
INK, FAINT, PAPER = (28, 28, 30), (110, 110, 116), (252, 252, 250)


@dataclass(frozen=True)
class Row:
    title: str
    subtitle: str
    pictures: Sequence[bytes]  # PNG files


def contact_sheet(heads: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """`heads`: one caption a column, broken into two lines at its middle."""
    width = LABEL + len(heads) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, HEAD + len(rows) * (CELL + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    for column, head in enumerate(heads):
        pen.multiline_text((LABEL + column * (CELL + GAP), 8), _two_lines(head), FAINT, font=plain, spacing=2)
    for number, row in enumerate(rows):
        top = HEAD + number * (CELL + GAP)
        pen.multiline_text((12, top + 34), row.title, INK, font=bold)
        pen.multiline_text((12, top + 60), row.subtitle, FAINT, font=plain, spacing=3)
        for column, png in enumerate(row.pictures):
            with Image.open(io.BytesIO(png)) as picture:
                # Nearest: a 64-pixel picture should look like what it is.
                sheet.paste(
                    picture.convert("RGB").resize((CELL, CELL), Image.Resampling.NEAREST),
                    (LABEL + column * (CELL + GAP), top),
                )
    return sheet


def _two_lines(text: str) -> str:
    words = text.split()
    breaks = range(1, len(words)) if len(words) > 1 else [len(words)]
    best = min(breaks, key=lambda i: max(len(" ".join(words[:i])), len(" ".join(words[i:]))))
    return " ".join(words[:best]) + "\n" + " ".join(words[best:])
