"""Reads a picture back: shape, shape colour, background colour, and whether the shape is hollow.

Pure numpy on pixels, no model. The background is the palette colour nearest the border; the shape's colour is
the most frequent other palette colour; every pixel is then placed between the two; the largest connected
piece, with its holes filled, is turned to a standard size and compared with drawn templates of every shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.starter import world

GRID = 32
"""Side of the standard grid that silhouettes are compared on."""
REACH = 1.35
"""Half the grid's side in units of the square root of the silhouette's area."""
FIT = 0.80
"""Least overlap (IoU) with a template for a shape to be named; set on real drawings, see the tests."""
LEAST_AREA = 90
"""Pixels; the smallest drawn silhouette (a small star) covers about 150."""


@dataclass(frozen=True)
class Reading:
    """What the scorer saw. ``shape`` and ``colour`` are None where nothing clear was found."""

    shape: str | None
    colour: str | None
    background: str
    fit: float
    hollow: float
    """Empty share of the silhouette (holes filled)."""
    thin: float
    """Share of the shape's pixels within 3 pixels of its edge."""

    def right(self, scene: world.Scene) -> bool:
        """Shape, shape colour and background colour all as ``scene`` says."""
        return (self.shape, self.colour, self.background) == (scene.shape, scene.colour, scene.background)


def read(pictures: np.ndarray) -> list[Reading]:
    """Readings of uint8 pictures (n, 64, 64, 3), a few at a time so that the work stays in cache."""
    return [reading for at in range(0, len(pictures), 16) for reading in _read(pictures[at : at + 16])]


def _read(pictures: np.ndarray) -> list[Reading]:
    n, side = len(pictures), pictures.shape[1]
    palette = np.array([world.PALETTE[name] for name in world.COLOURS], np.float32)
    pixels = pictures.astype(np.float32)
    distance = ((pixels[:, :, :, None] - palette) ** 2).sum(-1)
    nearest = distance.argmin(-1)
    border = np.ones((side, side), bool)
    border[3:-3, 3:-3] = False
    count = np.stack([(nearest == k).sum((1, 2)) for k in range(len(palette))], 1)
    edge = np.stack([(nearest == k)[:, border].sum(1) for k in range(len(palette))], 1)
    back = edge.argmax(1)
    rows = np.arange(n)
    count[rows, back] = -1
    front = count.argmax(1)
    axis = palette[front] - palette[back]
    along = ((pixels - palette[back][:, None, None]) * axis[:, None, None]).sum(-1)
    mask = along > 0.5 * (axis**2).sum(1)[:, None, None]
    front_pixels = mask
    mask = largest_piece(mask)
    solid = fill_holes(mask)
    strokes = front_pixels & ~eroded(eroded(eroded(front_pixels)))
    area = solid.sum((1, 2))
    fits = overlap(solid)
    best = fits.argmax(1)
    names = (*world.SHAPES, world.NEW_SHAPE)
    readings = []
    for i in range(n):
        fit = float(fits[i, best[i]])
        seen = area[i] >= LEAST_AREA
        # The colour is judged on the piece itself: most of its pixels must be nearest to that colour.
        own = mask[i] & (nearest[i] == front[i])
        clear = bool(seen) and own.sum() >= 0.5 * mask[i].sum()
        readings.append(
            Reading(
                shape=names[best[i]] if seen and fit >= FIT else None,
                colour=world.COLOURS[front[i]] if clear else None,
                background=world.COLOURS[back[i]],
                fit=fit if seen else 0.0,
                hollow=float(1 - mask[i].sum() / area[i]) if seen else 0.0,
                thin=float(strokes[i].sum() / front_pixels[i].sum()) if front_pixels[i].sum() >= 40 else 0.0,
            )
        )
    return readings


def _shifted(mask: np.ndarray) -> list[np.ndarray]:
    """The four neighbours of every pixel, (n, h, w) each; beyond the edge is zero."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    return [padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]]


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Keeps each mask's largest 4-connected piece; (n, h, w) bool."""
    n, high, wide = mask.shape
    label = np.where(mask, np.arange(1, high * wide + 1, dtype=np.int16).reshape(1, high, wide), np.int16(0))
    while True:
        spread = np.maximum.reduce([label, *_shifted(label)]) * mask
        if np.array_equal(spread, label):
            break
        label = spread
    kept = np.zeros_like(mask)
    for i in range(n):
        sizes = np.bincount(label[i].ravel(), minlength=2)
        sizes[0] = 0
        if sizes.max() > 0:
            kept[i] = label[i] == sizes.argmax()
    return kept


def eroded(mask: np.ndarray) -> np.ndarray:
    """Each mask without the pixels on its edge; (n, h, w) bool."""
    return np.logical_and.reduce([mask, *_shifted(mask)])


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Each mask with everything that the border cannot reach; (n, h, w) bool."""
    outside = np.zeros_like(mask)
    outside[:, 0], outside[:, -1], outside[:, :, 0], outside[:, :, -1] = True, True, True, True
    outside &= ~mask
    while True:
        spread = np.logical_or.reduce([outside, *_shifted(outside)]) & ~mask
        if np.array_equal(spread, outside):
            return ~outside
        outside = spread


def standard(solid: np.ndarray) -> np.ndarray:
    """Silhouettes (n, h, w) moved to their centroid and scaled to unit area, (n, GRID, GRID) in 0..1."""
    n, high, wide = solid.shape
    weight = solid.astype(np.float32)
    area = np.maximum(weight.sum((1, 2)), 1)
    yy, xx = np.mgrid[0:high, 0:wide].astype(np.float32)
    cy, cx = (weight * yy).sum((1, 2)) / area, (weight * xx).sum((1, 2)) / area
    step = ((np.arange(GRID) + 0.5) / GRID * 2 - 1) * REACH / 2
    # Clipping to the last row keeps a silhouette that touches the border from wrapping round.
    y = np.clip(cy[:, None] + step[None] * np.sqrt(area)[:, None], 0, high - 1.001)
    x = np.clip(cx[:, None] + step[None] * np.sqrt(area)[:, None], 0, wide - 1.001)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, :, None], (x - x0)[:, None, :]
    pick = np.arange(n)[:, None, None]
    ya, xa = y0[:, :, None], x0[:, None, :]
    upper = weight[pick, ya, xa] * (1 - fx) + weight[pick, ya, xa + 1] * fx
    lower = weight[pick, ya + 1, xa] * (1 - fx) + weight[pick, ya + 1, xa + 1] * fx
    return upper * (1 - fy) + lower * fy


@lru_cache(maxsize=1)
def templates() -> tuple[np.ndarray, np.ndarray]:
    """(shapes, turns, GRID * GRID) standard silhouettes, drawn large."""
    masks = []
    for name in (*world.SHAPES, world.NEW_SHAPE):
        for degrees in range(-16, 17, 4):
            turn = np.radians(degrees)
            spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            masks.append(world.shape_mask(world.outline_of(name) @ spin.T * 22 + world.SIDE / 2) > 0.5)
    flat = standard(np.stack(masks)).reshape(len(world.SHAPES) + 1, -1, GRID * GRID)
    return flat, flat.sum(-1)


def overlap(solid: np.ndarray) -> np.ndarray:
    """Best soft IoU of each silhouette with each shape over the turns, (n, shapes)."""
    flat, total = templates()
    seen = standard(solid).reshape(len(solid), -1)
    both = np.einsum("np,stp->nst", seen, flat, optimize=True)
    union = seen.sum(1)[:, None, None] + total[None] - both
    return (both / np.maximum(union, 1e-6)).max(-1)


def share_right(pictures: np.ndarray, scenes: list[world.Scene]) -> float:
    """Share of pictures (n, 64, 64, 3) in which all three attributes are right."""
    return float(np.mean([reading.right(scene) for reading, scene in zip(read(pictures), scenes, strict=True)]))


def style_score(pictures: np.ndarray) -> float:
    """Mean share of the shape's pixels within 3 pixels of its edge: about 0.5 filled, 1 as an outline.

    A stroke counts even where it is broken, so the score moves before every outline is closed.
    """
    return float(np.mean([reading.thin for reading in read(pictures)]))
