"""The starter's world: pictures that a program draws, and the captions that describe them.

A picture is 64x64 RGB: one shape in one colour on a background of another colour. Size and position may be
said in the caption; rotation, shading, colour jitter and faint background dots are never said. Nothing is
downloaded, so there is no licence question, and :mod:`tests.starter.scorer` can read every attribute back
from the pixels.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageDraw

SIDE = 64
"""Side of a picture in pixels."""
SUPER = 4
"""Masks are drawn at SIDE * SUPER pixels and averaged down, which gives smooth edges."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "yellow": (240, 215, 50),
    "green": (45, 155, 60),
    "cyan": (60, 205, 215),
    "blue": (40, 65, 205),
    "purple": (150, 50, 165),
    "white": (238, 238, 238),
    "black": (24, 24, 24),
}
"""sRGB 0-255; the closest pair (blue, purple) is more than 110 apart, the jitter at most 10 a channel."""
COLOURS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
NEW_SHAPE = "heart"
"""Known to the VAE and to the heart LoRA, never to the base."""
SIZES = {"small": 12.0, "medium": 15.5, "large": 19.0}
"""Nominal radius in pixels; the smallest star is about 27 pixels across."""
POSITIONS = {"centre": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
"""Direction of the offset from the middle (x to the right, y down)."""
OFFSET = 7.0
"""Length of that offset in pixels."""
TILT = 12.0
"""Largest rotation in degrees; small enough that a square never looks like a diamond."""
STROKE = 4.2
"""Width in pixels of a full outline's line; half of it lies outside the filled shape's edge."""
STYLE_TRIGGER = "outline style"


@dataclass(frozen=True)
class Scene:
    """What a picture shows."""

    shape: str
    colour: str
    background: str
    size: str = "medium"
    position: str = "centre"
    outline: float = 0.0
    """0 is filled; on the way to 1 a hole grows from the middle, until only a line is left."""


def outline_of(shape: str) -> np.ndarray:
    """The shape's boundary as points (n, 2) about the origin, nominal radius 1, y down."""
    if shape == "circle":
        angle = np.linspace(0, 2 * math.pi, 48, endpoint=False)
        return 0.95 * np.stack([np.cos(angle), np.sin(angle)], 1)
    if shape == "square":
        return 0.84 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    if shape == "triangle":
        angle = np.radians([-90, 30, 150])
        return 1.16 * np.stack([np.cos(angle), np.sin(angle)], 1) + [0, 0.12]
    if shape == "star":
        angle = np.radians(-90 + 36 * np.arange(10))
        radius = np.where(np.arange(10) % 2 == 0, 1.16, 0.5)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    if shape == "cross":
        a, b = 1.02, 0.35
        return np.array(
            [
                [-b, -a],
                [b, -a],
                [b, -b],
                [a, -b],
                [a, b],
                [b, b],
                [b, a],
                [-b, a],
                [-b, b],
                [-a, b],
                [-a, -b],
                [-b, -b],
            ],
            float,
        )
    if shape == "diamond":
        return np.array([[0, -1.2], [0.78, 0], [0, 1.2], [-0.78, 0]], float)
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 64, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([x / 16, -(y + 2.5) / 15], 1) * 1.05
    raise ValueError(f"unknown shape {shape!r}")


def _room(points: np.ndarray) -> float:
    """Pixels from the middle of the polygon ``points`` (n, 2) to the nearest point of its edge."""
    middle, along = points.mean(0), np.roll(points, -1, axis=0) - points
    share = np.clip(((middle - points) * along).sum(1) / (along**2).sum(1), 0, 1)
    return float(np.hypot(*(points + share[:, None] * along - middle).T).min())


def shape_mask(points: np.ndarray, outline: float = 0.0) -> np.ndarray:
    """Coverage in 0..1, (SIDE, SIDE), of the polygon ``points`` (n, 2) in pixels, hollowed as ``outline`` (0..1) says."""
    corners = [(float(x) * SUPER, float(y) * SUPER) for x, y in points]

    def band(width: float) -> Image.Image:
        """What lies within half of ``width`` pixels of the edge."""
        image = Image.new("L", (SIDE * SUPER, SIDE * SUPER), 0)
        pen = ImageDraw.Draw(image)
        pen.line([*corners, corners[0], corners[1]], fill=255, width=round(width * SUPER), joint="curve")
        return image

    image = Image.new("L", (SIDE * SUPER, SIDE * SUPER), 0)
    ImageDraw.Draw(image).polygon(corners, fill=255)
    if outline > 0:
        room = _room(points)
        image = ImageChops.darker(image, band(2 * room + (STROKE - 2 * room) * outline))
        image = ImageChops.lighter(image, band(STROKE * outline))
    return np.asarray(image.reduce(SUPER), np.float32) / 255.0


def _ramp(rng: random.Random, strength: float) -> np.ndarray:
    """A brightness ramp (SIDE, SIDE, 1) about 1 in a random direction."""
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0, strength)
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    return (1 + depth * (math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]))[:, :, None]


def _tint(name: str, rng: random.Random) -> np.ndarray:
    return np.array([channel + rng.uniform(-10, 10) for channel in PALETTE[name]], np.float32)


def draw(scene: Scene, rng: random.Random) -> np.ndarray:
    """The picture of ``scene``, uint8 (SIDE, SIDE, 3); everything unsaid comes from ``rng``."""
    ground = _tint(scene.background, rng)
    dot = 0.75 * ground + 0.25 * (255.0 if ground.mean() < 128 else 0.0)
    picture = np.broadcast_to(ground, (SIDE, SIDE, 3)).copy()
    yy, xx = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5
    for _ in range(rng.randint(0, 4)):
        x, y, radius = rng.uniform(3, SIDE - 3), rng.uniform(3, SIDE - 3), rng.uniform(1.5, 2.8)
        cover = np.clip(radius + 0.5 - np.hypot(xx - x, yy - y), 0, 1)[:, :, None]
        picture = picture * (1 - cover) + dot * cover
    picture *= _ramp(rng, 0.16)
    turn = math.radians(rng.uniform(-TILT, TILT))
    radius = SIZES[scene.size] * rng.uniform(0.95, 1.05)
    dx, dy = POSITIONS[scene.position]
    centre = np.array([SIDE / 2 + dx * OFFSET + rng.uniform(-1, 1), SIDE / 2 + dy * OFFSET + rng.uniform(-1, 1)])
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = outline_of(scene.shape) @ spin.T * radius + centre
    cover = shape_mask(points, scene.outline)[:, :, None]
    picture = picture * (1 - cover) + _tint(scene.colour, rng) * _ramp(rng, 0.22) * cover
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def combinations(shapes: tuple[str, ...] = SHAPES) -> list[tuple[str, str, str]]:
    """Every (shape, colour, background) with two different colours, in a fixed order."""
    return [(s, c, b) for s, c, b in itertools.product(shapes, COLOURS, COLOURS) if c != b]


def split(shapes: tuple[str, ...] = SHAPES) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(drawn in training, never drawn): a fixed quarter of the combinations is held out."""
    every = combinations(shapes)
    random.Random(20_24).shuffle(every)
    held = len(every) // 4
    return every[held:], every[:held]


def sample_scene(rng: random.Random, pool: list[tuple[str, str, str]], outline: float = 0.0) -> Scene:
    """A scene with its (shape, colour, background) from ``pool`` and a free size and position."""
    shape, colour, background = rng.choice(pool)
    return Scene(shape, colour, background, rng.choice(list(SIZES)), rng.choice(list(POSITIONS)), outline)


def muddle(scene: Scene, rng: random.Random, pool: list[tuple[str, str, str]], noise: float) -> Scene:
    """The scene that a noisy caption describes: each attribute drawn anew with chance ``noise``.

    Its (shape, colour, background) is one of ``pool``. A caption of a held-out combination could only come with
    a picture of another one, and would teach that such captions are always wrong about something.
    """
    shapes = sorted({shape for shape, _, _ in pool})
    while True:
        said = replace(
            scene,
            shape=rng.choice(shapes) if rng.random() < noise else scene.shape,
            colour=rng.choice(COLOURS) if rng.random() < noise else scene.colour,
            background=rng.choice(COLOURS) if rng.random() < noise else scene.background,
            size=rng.choice(list(SIZES)) if rng.random() < noise else scene.size,
            position=rng.choice(list(POSITIONS)) if rng.random() < noise else scene.position,
        )
        if (said.shape, said.colour, said.background) in pool:
            return said


def caption(scene: Scene, rng: random.Random) -> str:
    """One of a few phrasings; size and position are each left out half of the time."""
    size = f"{scene.size} " if rng.random() < 0.5 else ""
    place = ""
    if rng.random() < 0.5:
        place = ", in the centre" if scene.position == "centre" else f", at the {scene.position}"
    text = rng.choice(
        (
            f"a {size}{scene.colour} {scene.shape} on a {scene.background} background{place}",
            f"{size}{scene.colour} {scene.shape}, {scene.background} background{place}",
        )
    )
    return f"{text}, {STYLE_TRIGGER}" if scene.outline else text


def held_out_prompts(count: int = 252, seed: int = 7, drawn: bool = False) -> list[tuple[Scene, str]]:
    """Distinct prompts over the combinations never drawn (or, for comparison, over the drawn ones), each
    combination equally often."""
    rng = random.Random(seed)
    held = split()[0 if drawn else 1]
    prompts: dict[str, Scene] = {}
    for index in itertools.count():
        if len(prompts) == count:
            break
        shape, colour, background = held[index % len(held)]
        scene = Scene(shape, colour, background, rng.choice(list(SIZES)), rng.choice(list(POSITIONS)))
        text = caption(scene, rng)
        while text in prompts:
            text = caption(replace(scene, size=rng.choice(list(SIZES)), position=rng.choice(list(POSITIONS))), rng)
        prompts[text] = scene
    return [(scene, text) for text, scene in prompts.items()]
