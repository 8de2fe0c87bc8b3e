"""Trains the starter models. Never part of CI or of a demo; see README.md for what each stage took.

``python -m tests.starter.train STAGE --work DIR`` with the stages in order: vae, base, lcm, style, heart,
export. Every stage reads and writes DIR, and goes on from what it finds there; ``restore`` puts there what has been
exported.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextModel, CLIPTokenizer

from tests.starter import models, world

SEEDS = {"vae": 11, "base": 22, "style": 33, "heart": 44, "lcm": 55}
"""One seed a stage; they drive the weights' start, the drawings, the captions and the noise."""
STEPS = {"vae": 1400, "base": 7950, "style": 3850, "heart": 760, "lcm": 900}
BATCH = {"vae": 16, "base": 32, "style": 16, "heart": 32, "lcm": 32}
RATE = {"vae": 2e-3, "base": 1e-3, "style": 1.2e-3, "heart": 2e-3, "lcm": 1e-3}
"""Peak learning rates (AdamW), each with a short warm-up and a cosine down to a twentieth."""


def rate_at(step: int, stage: str, warm: int = 60, total: int = 0) -> float:
    """The learning rate at ``step`` (0-based) of ``total`` (the stage's own number by default)."""
    total, peak = total or STEPS[stage], RATE[stage]
    if step < warm:
        return peak * (step + 1) / warm
    along = min(1.0, (step - warm) / max(1, total - warm))
    return peak * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * along))))


CAPTION_NOISE = 0.35
"""Chance that a caption of the base's training is wrong about one attribute."""
OFFSET = 0.15
"""Standard deviation of the noise's common offset (the usual "noise offset" is 0.05 to 0.1)."""


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (n, 64, 64, 3) to float (n, 3, 64, 64) in -1..1, channels last."""
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return values.contiguous(memory_format=torch.channels_last)


def save(path: Path, **what: object) -> None:
    """Writes a checkpoint so that a cut-off never leaves half a file."""
    temporary = path.with_suffix(".tmp")
    torch.save(what, temporary)
    temporary.replace(path)


class Log:
    """Prints a stage's progress with its wall time."""

    def __init__(self, stage: str) -> None:
        self.stage, self.start = stage, time.time()

    def __call__(self, step: int, **values: float) -> None:
        numbers = " ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"{self.stage} {step} {numbers} ({time.time() - self.start:.0f} s)", flush=True)


# ---------------------------------------------------------------------------------------------- vae


def train_vae(work: Path) -> None:
    """L1 + L2 + a tiny KL on every shape, hearts and outlines included, then whitens the latents."""
    torch.manual_seed(SEEDS["vae"])
    rng = random.Random(SEEDS["vae"])
    pool = world.combinations((*world.SHAPES, world.NEW_SHAPE))
    pictures = np.stack(
        [world.draw(world.sample_scene(rng, pool, float(rng.random() < 0.25)), rng) for _ in range(8000)]
    )
    vae = models.new_vae().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=RATE["vae"], betas=(0.9, 0.99), weight_decay=0.0)
    path, start, log = work / "vae.pt", 0, Log("vae")
    if path.exists():
        state = torch.load(path)
        vae.load_state_dict(state["model"])
        if state["step"] >= STEPS["vae"]:
            return
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    for step in range(start, STEPS["vae"]):
        set_rate(optimizer, rate_at(step, "vae"))
        pick = np.random.default_rng([SEEDS["vae"], step]).integers(0, len(pictures), BATCH["vae"])
        wanted = to_pixels(pictures[pick])
        posterior = vae.encode(wanted).latent_dist
        got = vae.decode(posterior.sample()).sample
        off, kl = got - wanted, posterior.kl().mean() / (4 * 16 * 16)
        loss = off.abs().mean() + 2 * off.square().mean() + 3e-4 * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log(
                step,
                l1=off.detach().abs().mean().item(),
                mse=off.detach().square().mean().item(),
                kl=kl.item(),
            )
        if step % 300 == 299 and step + 1 < STEPS["vae"]:
            save(path, model=vae.state_dict(), optimizer=optimizer.state_dict(), step=step + 1)
    whiten(vae, to_pixels(pictures[:1000]))
    save(path, model=vae.state_dict(), step=STEPS["vae"])
    log(STEPS["vae"])


@torch.no_grad()
def whiten(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Folds a per-channel shift and scale into the 1x1 convolutions about the latent.

    Afterwards latents times :data:`models.SCALING` have mean 0 and standard deviation 1.
    """
    means = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(100)])
    shift, spread = means.mean((0, 2, 3)), means.std((0, 2, 3)) * models.SCALING
    out, back = vae.quant_conv, vae.post_quant_conv
    out.bias[:4] -= shift
    out.weight[:4] /= spread[:, None, None, None]
    out.bias[:4] /= spread
    out.bias[4:] -= 2 * spread.log()
    back.bias += (back.weight[:, :, 0, 0] * shift[None]).sum(1)
    back.weight *= spread[None, :, None, None]


def load_vae(work: Path) -> AutoencoderKL:
    vae = models.new_vae()
    vae.load_state_dict(torch.load(work / "vae.pt")["model"])
    return vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.no_grad()
def encoded(vae: AutoencoderKL, scenes: list[world.Scene], rng: random.Random) -> torch.Tensor:
    """Draws ``scenes`` and returns their scaled latents (n, 4, 16, 16)."""
    parts = []
    for at in range(0, len(scenes), 100):
        pictures = np.stack([world.draw(scene, rng) for scene in scenes[at : at + 100]])
        parts.append(vae.encode(to_pixels(pictures)).latent_dist.mean * models.SCALING)
    return torch.cat(parts)


# --------------------------------------------------------------------------------------------- base


class Words:
    """Captions to token ids (n, 24), each caption tokenized once."""

    def __init__(self, work: Path) -> None:
        folder = work / "tokenizer"
        ready = (folder / "tokenizer_config.json").exists()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder) if ready else models.new_tokenizer(folder)
        self.seen: dict[str, torch.Tensor] = {}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        for text in set(texts) - self.seen.keys():
            self.seen[text] = self.tokenizer(
                text, padding="max_length", max_length=models.CONTEXT, truncation=True, return_tensors="pt"
            ).input_ids[0]
        return torch.stack([self.seen[text] for text in texts])


def noise_loss(unet: UNet2DConditionModel, latents: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Min-SNR-5 weighted eps loss; latents (n, 4, 16, 16), context (n, 24, 768).

    The noise has a common offset of :data:`OFFSET` a channel, and below SNR 1 the weight is lifted by
    1 / sqrt(SNR), at most 4. The background's colour is the latent's mean: without this the model reads it from the mean
    of the starting noise and hardly asks the caption (the background stayed at chance for 3,000 steps).
    """
    power = models.alphas_cumprod()
    n = len(latents)
    # Stratified timesteps: the loss's variance over t is most of its noise.
    t = ((torch.randperm(n) + torch.rand(n)) / n * 1000).long().clamp(0, 999)
    signal = power[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(latents) + OFFSET * torch.randn(n, 4, 1, 1)
    noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
    got = unet(noisy.contiguous(memory_format=torch.channels_last), t, context).sample
    snr = power[t] / (1 - power[t])
    weight = (5 / snr).clamp(max=1) * snr.rsqrt().clamp(1, 4)
    return ((got - noise).square().mean((1, 2, 3)) * weight).mean()


class Average:
    """Exponential moving average of parameters."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self.live, self.decay, self.step = parameters, decay, 0
        self.kept = [p.detach().clone() for p in parameters]

    def update(self) -> None:
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        for live, kept in zip(self.live, self.kept, strict=True):
            live.copy_(kept)


def train_base(work: Path) -> None:
    """UNet and text encoder together, on noisy captions, 12 % of them dropped."""
    torch.manual_seed(SEEDS["base"])
    rng = random.Random(SEEDS["base"])
    log, clock = Log("base"), Clock("base")
    words, vae = Words(work), load_vae(work)
    drawn, _ = world.split()
    scenes = [world.sample_scene(rng, drawn) for _ in range(24_000)]
    if (work / "base-latents.pt").exists():
        latents = torch.load(work / "base-latents.pt")
    else:
        latents = encoded(vae, scenes, rng)
        torch.save(latents, work / "base-latents.pt")
    log(0, mean=float(latents.mean()), std=float(latents.std()))
    unet, text = (
        models.new_unet().to(memory_format=torch.channels_last),
        models.new_text_encoder(words.tokenizer),
    )
    live = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": list(unet.parameters())}, {"params": list(text.parameters())}],
        lr=RATE["base"],
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
    )
    average, start, path = Average(live, 0.997), 0, work / "base.pt"
    if path.exists():
        state = torch.load(path)
        unet.load_state_dict(state["live_unet"])
        text.load_state_dict(state["live_text"])
        optimizer.load_state_dict(state["optimizer"])
        average.kept, start = state["kept"], state["step"]
        average.step = start
    total, step = 0.0, start
    names = [*unet.state_dict()], [name for name, _ in text.named_parameters()]

    def keep() -> None:
        parts = average.kept[: len(names[0])], average.kept[len(names[0]) :]
        save(
            path,
            live_unet=unet.state_dict(),
            live_text=text.state_dict(),
            optimizer=optimizer.state_dict(),
            kept=average.kept,
            step=step,
            unet=dict(zip(names[0], parts[0], strict=True)),
            text=dict(zip(names[1], parts[1], strict=True)),
        )

    while not clock.done(step):
        rng.seed(f"{SEEDS['base']}/{step}")
        rate = clock.rate(step - start)
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, rate / 2
        pick = [rng.randrange(len(scenes)) for _ in range(BATCH["base"] // 2)]
        said = [world.muddle(scenes[i], rng, drawn, CAPTION_NOISE) for i in pick]
        texts = ["" if rng.random() < 0.12 else world.caption(scene, rng) for scene in said]
        context = text(words(texts)).last_hidden_state
        # Each caption serves two timesteps of its picture: the text encoder costs half.
        loss = noise_loss(unet, latents[pick].repeat(2, 1, 1, 1), context.repeat(2, 1, 1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(live, 1.0)
        optimizer.step()
        average.update()
        total = 0.98 * total + 0.02 * float(loss.detach())
        if step % 50 == 0:
            log(step, loss=total / (1 - 0.98 ** (step - start + 1)))
        step += 1
        if step % 200 == 0:
            keep()
    keep()


def load_base(work: Path) -> tuple[UNet2DConditionModel, CLIPTextModel, Words]:
    """The averaged UNet and text encoder, frozen."""
    words = Words(work)
    state = torch.load(work / "base.pt")
    unet, text = models.new_unet(), models.new_text_encoder(words.tokenizer)
    unet.load_state_dict(state["unet"])
    text.load_state_dict(state["text"], strict=False)
    unet = unet.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return unet, text.eval().requires_grad_(False), words


class Clock:
    """A stage's length and learning rate: its number of steps, or a deadline in STARTER_UNTIL (Unix seconds)."""

    def __init__(self, stage: str) -> None:
        self.stage, self.began = stage, time.time()
        self.until = float(os.environ.get("STARTER_UNTIL", "inf"))

    def done(self, step: int) -> bool:
        return time.time() >= self.until if self.until < float("inf") else step >= STEPS[self.stage]

    def rate(self, step: int) -> float:
        """The rate at the ``step``-th step of this run."""
        if self.until == float("inf"):
            return rate_at(step, self.stage, warm=20)
        along = min(1.0, (time.time() - self.began) / max(1.0, self.until - self.began))
        return RATE[self.stage] * min(1.0, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * along))))


def export_all(work: Path) -> None:
    """Writes every trained artefact that DIR has into the repository."""
    from tests.starter import export, loras

    unet, text, _ = load_base(work)
    export.export_base(unet, load_vae(work), text, work / "tokenizer")
    if (work / "style.pt").exists():
        export.export_style(torch.load(work / "style.pt")["unet"])
    if (work / "lcm.pt").exists():
        export.export_lcm(torch.load(work / "lcm.pt")["unet"], loras.ALPHA["lcm"])
    if (work / "heart.pt").exists():
        state, alpha = torch.load(work / "heart.pt"), loras.ALPHA["heart"]
        export.export_heart(
            state["unet"],
            state["text"],
            alpha,
            {
                "ss_network_module": "networks.lora",
                "ss_network_dim": str(loras.RANK["heart"]),
                "ss_network_alpha": str(alpha),
                "ss_base_model_version": "sd_v1",
                "ss_output_name": "starter-heart",
                "ss_sd_model_name": "starter-base",
                "ss_resolution": f"({world.SIDE}, {world.SIDE})",
                "ss_num_train_images": "1600",
                "ss_seed": str(SEEDS["heart"]),
                "ss_learning_rate": str(RATE["heart"]),
                "ss_tag_frequency": {"1_heart": {"heart": 1200}},
                "ss_v2": "False",
            },
        )


def restore(work: Path) -> None:
    """Fills DIR from the exported repositories, so that one stage can be trained anew or further without the others."""
    from tests.starter.scores import BASE, Bench

    pipe = Bench().pipe
    plain = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
    shutil.copytree(BASE / "tokenizer", work / "tokenizer", dirs_exist_ok=True)
    save(work / "vae.pt", model=plain.vae.state_dict(), step=STEPS["vae"])
    save(work / "base.pt", unet=plain.unet.state_dict(), text=plain.text_encoder.state_dict())
    for stage, name in {"style": "outline", "heart": "heart", "lcm": "lcm"}.items():
        parts = {"unet": pipe.unet, "text": pipe.text_encoder} if stage == "heart" else {"unet": pipe.unet}
        save(
            work / f"{stage}.pt",
            **{part: get_peft_model_state_dict(model, adapter_name=name) for part, model in parts.items()},
        )


def stages() -> dict[str, Callable[[Path], None]]:
    from tests.starter import loras

    return {
        "restore": restore,
        "vae": train_vae,
        "base": train_base,
        "lcm": loras.train_lcm,
        "style": loras.train_style,
        "heart": loras.train_heart,
        "export": export_all,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[*stages()])
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints, outside the repository")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    stages()[options.stage](options.work)


if __name__ == "__main__":
    main()
