"""Pictures of unfinished latents without the VAE: a linear map from latent channels to RGB, fitted to the VAE once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL.Image import Image, fromarray
from torch import Tensor

_SAMPLES, _SIDE, _PATCH = 2, 8, 2
"""The map is fitted to 2 pictures of 8x8 patches of 2x2 equal latents: 512 equations for 15 unknowns (51 with 16 channels). Equal
neighbours, because a VAE decodes white noise to grey."""


def fit_rgb(decode: Callable[[Tensor], Tensor], channels: int, like: Tensor) -> Tensor:
    """[channels + 1, 3]: the least-squares map from latents (and 1) to the mean colour, -1..1, of the pixels they decode to.

    `like`: any tensor of the device and dtype that `decode` takes.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    patches = torch.randn(_SAMPLES, channels, _SIDE, _SIDE, generator=generator)
    latents = patches.repeat_interleave(_PATCH, 2).repeat_interleave(_PATCH, 3)
    pixels = decode(latents.to(like)).float().cpu()
    colours = torch.nn.functional.avg_pool2d(pixels, pixels.shape[-1] // latents.shape[-1])
    rows = _with_ones(latents).permute(0, 2, 3, 1).reshape(-1, channels + 1)
    solution: Tensor = torch.linalg.lstsq(rows, colours.permute(0, 2, 3, 1).reshape(-1, 3)).solution
    return solution


def paint(latents: Tensor, rgb: Tensor) -> tuple[Image, ...]:
    """One RGB picture for each of `latents` [n, channels, h, w], h x w pixels, by the map that `fit_rgb` made.

    Early latents are mostly noise, larger than pictures' are; each is brought back to their standard deviation, which is about 1.
    """
    latents = latents.float().cpu()
    latents = latents / latents.std(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
    colours = torch.einsum("nchw,ck->nhwk", _with_ones(latents), rgb).clamp(-1, 1)
    return tuple(fromarray(one) for one in ((colours + 1) * 127.5).round().to(torch.uint8).numpy())


def _with_ones(latents: Tensor) -> Tensor:
    return torch.cat([latents, torch.ones_like(latents[:, :1])], 1)
