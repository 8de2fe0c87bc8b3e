"""The starter's architecture: real diffusers and transformers classes with small numbers in them.

Sizes follow from two limits: a folder of at most 24 MB in fp16, and training on two CPU cores in well under
an hour. The cross-attention width stays 768, which is what makes the family honestly Stable Diffusion 1.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.starter import world

CONTEXT = 24
"""Tokens a prompt is padded or cut to; the longest caption of the world has fewer than 20."""
WIDTH = 768
"""Text width and UNet cross-attention width, as in every Stable Diffusion 1 model."""
SCALING = 0.18215
"""The family's latent scaling factor; the latents are whitened so that it is right here too."""
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP's tokenizer cuts a text into words."""
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Stable Diffusion 1's published noise schedule, over 1,000 timesteps."""


def new_vae() -> AutoencoderKL:
    """64x64x3 pictures to 16x16x4 latents (f=4)."""
    return AutoencoderKL(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=world.SIDE,
        scaling_factor=SCALING,
    )


def new_unet() -> UNet2DConditionModel:
    """Cross-attention at both levels and in the middle; eps prediction on 16x16x4 latents."""
    return UNet2DConditionModel(
        sample_size=world.SIDE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 128),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=16,
    )


def new_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's own layout, trained on captions alone and saved to ``folder``."""
    rng = random.Random(0)
    pool = world.combinations((*world.SHAPES, world.NEW_SHAPE))
    texts = [world.caption(world.sample_scene(rng, pool, outline=float(i % 4 == 0)), rng) for i in range(4000)]
    bpe = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    learned = json.loads(bpe.to_str())["model"]["merges"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learned]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    entries = [*dict.fromkeys(entries), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {entry: index for index, entry in enumerate(entries)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = "\n".join(" ".join(pair) for pair in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """One CLIP layer of the full width; deeper would cost more than the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=512,
            num_hidden_layers=1,
            num_attention_heads=12,
            max_position_embeddings=CONTEXT,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def alphas_cumprod() -> torch.Tensor:
    """Cumulative signal power (1000,) of the schedule in :data:`BETAS`."""
    betas = torch.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()
