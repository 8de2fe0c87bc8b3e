"""Pictures in the making, by a linear map that is fitted to the VAE."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from registry.backends.diffusers.previews import fit_rgb, paint
from tests.conftest import STARTER


def test_a_vae_that_is_linear_is_found_exactly() -> None:
    wanted = torch.tensor([[0.3, 0.2, 0.2], [0.2, 0.3, 0.2], [-0.2, 0.2, 0.3], [-0.2, -0.3, -0.5], [0.1, 0.0, -0.1]])

    def decode(latents: Tensor) -> Tensor:
        pixels = torch.einsum("nchw,ck->nkhw", latents, wanted[:4]) + wanted[4].view(1, 3, 1, 1)
        return pixels.repeat_interleave(8, 2).repeat_interleave(8, 3)

    rgb = fit_rgb(decode, 4, torch.zeros(1))
    torch.testing.assert_close(rgb, wanted, rtol=1e-4, atol=1e-4)
    (image,) = paint(torch.zeros(1, 4, 2, 3), rgb)
    assert (image.size, image.getpixel((0, 0))) == ((3, 2), (140, 128, 115))


def test_with_a_trained_vae_the_preview_has_the_picture_s_colours() -> None:
    """The starter's: halves of colours that its pictures have, through the encoder and the map, and back at about the same."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(STARTER / "modelshelf/starter-base/vae").eval()
    left, right = (220, 30, 30), (40, 40, 220)
    picture = Image.new("RGB", (64, 64), left)
    picture.paste(right, (32, 0, 64, 64))
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, 64, 64, 3).permute(0, 3, 1, 2)
    with torch.inference_mode():
        latents = vae.encode(pixels / 127.5 - 1).latent_dist.mode()
        rgb = fit_rgb(lambda z: vae.decode(z).sample, 4, torch.zeros(1))
        (image,) = paint(latents / latents.std(), rgb * torch.cat([latents.std().expand(4, 1), torch.ones(1, 1)]))
    for x, colour in ((3, left), (12, right)):
        seen = image.getpixel((x, 8))
        assert max(range(3), key=lambda i: seen[i]) == max(range(3), key=lambda i: colour[i]), (seen, colour)
