"""The three LoRA stages of :mod:`tests.starter.train`: outline style, heart object, LCM."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.tuners.lora import Conv2d, LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from tests.starter import models, scorer, train, world

RANK = {"style": 16, "heart": 8, "lcm": 16}
ALPHA = {"style": 16.0, "heart": 4.0, "lcm": 8.0}
"""The LCM-LoRA's alpha is the published one; alpha / rank multiplies the product of the two factors."""
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
KOHYA_UNET = [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
STYLE_TARGETS = [*KOHYA_UNET, "conv1", "conv2"]
KOHYA_TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
LCM_TARGETS = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
]
"""The published LCM-LoRA recipe's modules."""
DRAWINGS = 4000
"""Of the style stage."""
FULL = 1.4
"""The style's weight at which nothing but the line is left. Such lines break easily: people stay below it."""
CURVE = 0.5
"""A hole of few pixels does not survive sampling: with 0.8, a quarter of FULL did nothing."""
GUIDANCE = (4.0, 6.0)
"""Range of the teacher's guidance scale, around the base's own CFG of 5."""
JUMP = 40
"""Timesteps between two points of a teacher trajectory: 25 DDIM steps over 1,000."""
TRAJECTORIES = 960
RENOISED = 880
"""Timestep below which a re-noised end still tells which picture it was (at 879 the signal is 1.8 % of the power)."""


def adapter(stage: str, targets: list[str]) -> LoraConfig:
    return LoraConfig(r=RANK[stage], lora_alpha=ALPHA[stage], target_modules=targets)


def fit(stage: str, live: list[torch.nn.Parameter], loss_at: Callable[[int], torch.Tensor], decay: float) -> None:
    """AdamW with the stage's rate or deadline over ``live``, which ends up as its moving average."""
    log, clock = train.Log(stage), train.Clock(stage)
    optimizer = torch.optim.AdamW(live, lr=train.RATE[stage], betas=(0.9, 0.99), weight_decay=0.0)
    average, total, step = train.Average(live, decay), 0.0, 0
    while not clock.done(step):
        train.set_rate(optimizer, clock.rate(step))
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(live, 1.0)
        optimizer.step()
        average.update()
        total = 0.96 * total + 0.04 * float(loss.detach())
        if step % 25 == 0:
            log(step, loss=total / (1 - 0.96 ** (step + 1)))
        step += 1
    log(step, loss=total)
    average.apply()


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The adapter's tensors in peft names."""
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(model).items()}


def start(model: torch.nn.Module, config: LoraConfig, path: Path, part: str = "unet") -> None:
    """Adds the adapter; a file of an earlier run is where it goes on from."""
    model.add_adapter(config)
    if path.exists():
        set_peft_model_state_dict(model, torch.load(path)[part])


def trainable(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def noised(latents: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """``latents`` (n, 4, 16, 16) with fresh noise, at the cumulative signal powers ``power`` (n,)."""
    signal = power.view(-1, 1, 1, 1)
    return signal.sqrt() * latents + (1 - signal).sqrt() * torch.randn_like(latents)


def consistency_loss(
    unet: UNet2DConditionModel, state: torch.Tensor, t: torch.Tensor, context: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    """Pseudo-Huber distance of LCM's f(x_t, t) from ``end``; state and end (n, 4, 16, 16), t (n,)."""
    signal = models.alphas_cumprod()[t].view(-1, 1, 1, 1)
    eps = unet(state.contiguous(memory_format=torch.channels_last), t, context).sample
    origin = (state - (1 - signal).sqrt() * eps) / signal.sqrt()
    # LCMScheduler's boundary: sigma_data 0.5, timesteps scaled by 10; beyond t = 20 it is all but f = origin.
    scaled = (t.float() * 10).view(-1, 1, 1, 1)
    skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25).sqrt()
    return (((skip * state + out * origin - end).square() + 0.03**2).sqrt() - 0.03).mean()


def strengths(unet: UNet2DConditionModel, values: torch.Tensor) -> None:
    """Sets the adapter's weight for each sample of the coming batch; ``values`` (n,)."""
    for module in unet.modules():
        if isinstance(module, LoraLayer):
            module.scaling["default"] = values.view(-1, *[1] * (3 if isinstance(module, Conv2d) else 2))


def with_lcm(work: Path, unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A second UNet with the LCM-LoRA merged into it, which shares the adapter of ``unet``."""
    fast, _, _ = train.load_base(work)
    start(fast, adapter("lcm", LCM_TARGETS), work / "lcm.pt")
    fast.fuse_lora()
    fast.unload_lora()
    fast.requires_grad_(False)
    fast.add_adapter(adapter("style", STYLE_TARGETS))
    for own, shared in zip(fast.modules(), unet.modules(), strict=True):
        if isinstance(own, LoraLayer):
            own.lora_A, own.lora_B, own.scaling = shared.lora_A, shared.lora_B, shared.scaling
    return fast


def train_style(work: Path) -> None:
    """The UNet's transformers and residual convolutions, as a slider: every sample has a weight of its own.

    At weight w the pictures are outlined by (w / FULL) ** CURVE, on the way from filled to a line. The captions are as noisy as
    the base's and as often empty, so that the outline alone is new, and so that guidance, which multiplies what the text
    changes, finds nothing of it to multiply. A third of the steps are the LCM-LoRA's: from a filled or an outlined
    picture with noise, which is what LCMScheduler visits, to the outlined one.
    """
    torch.manual_seed(train.SEEDS["style"])
    rng = random.Random(train.SEEDS["style"])
    unet, text, words = train.load_base(work)
    vae, power = train.load_vae(work), models.alphas_cumprod()
    drawn, _ = world.split()
    weight = FULL * torch.rand(DRAWINGS)
    scenes = [world.sample_scene(rng, drawn, (w / FULL) ** CURVE) for w in weight.tolist()]
    filled = train.encoded(vae, [replace(scene, outline=0.0) for scene in scenes], random.Random(0))
    latents = train.encoded(vae, scenes, random.Random(0))
    path = work / "style.pt"
    start(unet, adapter("style", STYLE_TARGETS), path)
    fast = with_lcm(work, unet)

    def loss_at(step: int) -> torch.Tensor:
        pick = [rng.randrange(len(scenes)) for _ in range(train.BATCH["style"])]
        quick = step % 3 == 2
        noise, empty = (0.0, 0.0) if quick else (train.CAPTION_NOISE, 0.12)
        said = [world.muddle(scenes[i], rng, drawn, noise) for i in pick]
        texts = ["" if rng.random() < empty else world.caption(scene, rng) for scene in said]
        with torch.no_grad():
            context = text(words(texts)).last_hidden_state
        strengths(unet, weight[pick])
        if not quick:
            return train.noise_loss(unet, latents[pick], context)
        before = torch.where(torch.rand(len(pick), 1, 1, 1) < 0.5, filled[pick], latents[pick])
        t = torch.randint(20, RENOISED, (len(pick),))
        return consistency_loss(fast, noised(before, power[t]), t, context, latents[pick])

    fit("style", trainable(unet), loss_at, 0.98)
    train.save(path, unet=weights(unet))


def train_heart(work: Path) -> None:
    """UNet and text encoder, on hearts, with a quarter of ordinary pictures so that those stay."""
    torch.manual_seed(train.SEEDS["heart"])
    rng = random.Random(train.SEEDS["heart"])
    unet, text, words = train.load_base(work)
    hearts, ordinary = world.split((world.NEW_SHAPE,))[0], world.split()[0]
    scenes = [world.sample_scene(rng, hearts if i % 4 else ordinary) for i in range(1600)]
    latents = train.encoded(train.load_vae(work), scenes, rng)
    start(unet, adapter("heart", KOHYA_UNET), work / "heart.pt")
    start(text, adapter("heart", KOHYA_TEXT), work / "heart.pt", "text")

    def loss_at(step: int) -> torch.Tensor:
        pick = [rng.randrange(len(scenes)) for _ in range(train.BATCH["heart"])]
        said = [world.muddle(scenes[i], rng, hearts if i % 4 else ordinary, 0.1) for i in pick]
        texts = ["" if rng.random() < 0.05 else world.caption(scene, rng) for scene in said]
        return train.noise_loss(unet, latents[pick], text(words(texts)).last_hidden_state)

    fit("heart", [*trainable(unet), *trainable(text)], loss_at, 0.97)
    train.save(work / "heart.pt", unet=weights(unet), text=weights(text))


@torch.no_grad()
def trajectories(
    unet: UNet2DConditionModel, context: torch.Tensor, empty: torch.Tensor, shift: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Guided DDIM trajectories of the teacher for ``context`` (n, 24, 768).

    Returns the states (points, n, 4, 16, 16), their timesteps (points,) and the ends (n, 4, 16, 16). ``shift``
    shortens the first jump, so that different batches visit different timesteps.
    """
    power, n = models.alphas_cumprod(), len(context)
    low, high = GUIDANCE
    scale = low + (high - low) * torch.rand(n, 1, 1, 1)
    state = torch.randn(n, 4, 16, 16).contiguous(memory_format=torch.channels_last)
    times = [999, *range(999 - shift if shift else 999 - JUMP, 0, -JUMP)]
    states, both = [], torch.cat([empty.expand(n, -1, -1), context])
    for at, t in enumerate(times):
        states.append(state)
        without, with_text = unet(state.repeat(2, 1, 1, 1), t, both).sample.chunk(2)
        eps = without + scale * (with_text - without)
        origin = (state - (1 - power[t]).sqrt() * eps) / power[t].sqrt()
        after = power[times[at + 1]] if at + 1 < len(times) else power[0]
        state = after.sqrt() * origin + (1 - after).sqrt() * eps if at + 1 < len(times) else origin
    return torch.stack(states), torch.tensor(times), state


def train_lcm(work: Path) -> None:
    """Consistency distillation with guidance inside.

    The student's origin f(x_t, t) must be the same along each guided ODE trajectory of the teacher. The
    trajectories are solved once, to their ends; those that end in a right picture are kept, and every point of
    one is pulled to its end: the consistency condition without a moving target network. Half of each batch are
    ends with fresh noise instead, which is what LCMScheduler visits after its first step; without them eight
    steps did worse than four.
    """
    torch.manual_seed(train.SEEDS["lcm"])
    rng = random.Random(train.SEEDS["lcm"])
    log = train.Log("lcm")
    unet, text, words = train.load_base(work)
    drawn, _ = world.split()
    scenes = [world.sample_scene(rng, drawn) for _ in range(TRAJECTORIES)]
    vae, parts, right = train.load_vae(work), [], []
    with torch.no_grad():
        context = text(words([world.caption(scene, rng) for scene in scenes])).last_hidden_state
        empty = text(words([""])).last_hidden_state
        for number, at in enumerate(range(0, TRAJECTORIES, 64)):
            states, times, ends = trajectories(unet, context[at : at + 64], empty, shift=20 * (number % 2))
            pixels = vae.decode(ends / models.SCALING).sample
            pictures = ((pixels.permute(0, 2, 3, 1).numpy() + 1) * 127.5).clip(0, 255).round().astype(np.uint8)
            good = [r.right(s) for r, s in zip(scorer.read(pictures), scenes[at : at + 64], strict=True)]
            parts.append((states, times, ends, torch.tensor(good).nonzero()[:, 0]))
            right.append(float(np.mean(good)))
            log(at, right=float(np.mean(right)))
    start(unet, adapter("lcm", LCM_TARGETS), work / "lcm.pt")
    power = models.alphas_cumprod()

    def loss_at(step: int) -> torch.Tensor:
        number = rng.randrange(len(parts))
        states, times, ends, good = parts[number]
        pick = good[torch.randint(0, len(good), (train.BATCH["lcm"],))]
        point = torch.randint(0, len(times), (len(pick),))
        t = times[point]
        again = ((t < RENOISED) & (torch.rand(len(pick)) < 0.6)).view(-1, 1, 1, 1)
        state = torch.where(again, noised(ends[pick], power[t]), states[point, pick])
        return consistency_loss(unet, state, t, context[64 * number + pick], ends[pick])

    fit("lcm", trainable(unet), loss_at, 0.98)
    train.save(work / "lcm.pt", unet=weights(unet))
