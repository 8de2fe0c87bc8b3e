"""What metadata and names say about a model, without what they say about a person.

Kept are short technical values, and of every other text the words that a probe would read in it: "my girlfriend, pony"
becomes "pony". So a redacted header is judged as the whole one is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from probes import json_text
from probes.claims import READ, TAGS, tellings, texts
from probes.report import Hints
from probes.traits import TELLINGS, prose

REDACTED = "(redacted)"
_JOINT = " | "
"""Between words that stood apart: no pattern of names reaches over it."""

_TECHNICAL = frozenset({
    "format", "modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation", "modelspec.prediction_type",
    "modelspec.predict_key", "modelspec.resolution", "modelspec.encoder_layer", "modelspec.timestep_range", "ss_base_model_version",
    "ss_v2", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_dropout", "ss_learning_rate", "ss_unet_lr",
    "ss_text_encoder_lr", "ss_num_train_images", "ss_num_epochs", "ss_epoch", "ss_steps", "ss_mixed_precision", "ss_full_fp16",
    "ss_clip_skip", "ss_resolution", "ss_noise_offset", "ss_zero_terminal_snr", "ss_lr_scheduler", "ss_optimizer",
    "ss_max_train_steps", "ss_sd_scripts_commit_hash", "general.architecture", "general.file_type", "general.quantization_version",
    "general.alignment",
})  # fmt: skip
"""Keys of kohya, ModelSpec and GGUF whose values are numbers, versions and names of code."""
_CONFIGURATIONS = frozenset({"lora_adapter_metadata", "ss_network_args"})
"""Keys whose value is the JSON of a configuration (diffusers and PEFT; kohya)."""
_PLAIN = re.compile(r"(?:https://)?[\w.+:=, ()-]*(?:/[\w.+-]+){0,3}")
_PRIVATE = re.compile(r"^[/~.]|\\|^[A-Za-z]:[\\/]|@|(?:^|/)(?:home|Users|mnt|media|root|workspace|content)/")
_LONGEST = 100  # characters; technical values are shorter
_IDENTIFIER = re.compile(r"[\w.+-]{0,80}")
_NAMING = re.compile(r"name|path|revision|repo|author|user", re.IGNORECASE)
"""Keys of configurations whose value is somebody's choice: `_name_or_path`, `base_model_name_or_path`, `revision`."""


def reduced(text: str) -> str:
    """The words of a text that are evidence, each once; REDACTED where there is none."""
    patterns = (*TELLINGS.values(), *TAGS.values())
    hits = [*tellings(text), *(hit for pattern in patterns for hit in pattern.finditer(text, 0, READ))]
    words = [hit.group() for hit in sorted(hits, key=lambda hit: hit.span())]
    last = reversed(dict.fromkeys(reversed(words)))  # each where it stands last: some patterns ask for the end
    return _JOINT.join(last) or (REDACTED if text else "")


def redacted_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The same keys: that one is there can be evidence by itself."""
    return {key: _value(key, value) for key, value in metadata.items()}


def _value(key: str, value: str) -> str:
    if key in _CONFIGURATIONS:
        try:
            return json_text.dumps(redacted_configuration(json_text.loads(value.encode()))).decode()
        except ValueError:
            return reduced(value)
    technical = key in _TECHNICAL and len(value) <= _LONGEST and _PLAIN.fullmatch(value) and not _PRIVATE.search(value)
    return value if technical else reduced(value)


def redacted_configuration(value: Any, naming: bool = False) -> Any:
    """A configuration's numbers, switches and names of code; other text by its words."""
    if isinstance(value, Mapping):
        return {
            key: redacted_configuration(inner, bool(_NAMING.search(key)) and key != "_class_name")
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redacted_configuration(inner, naming) for inner in value]
    if isinstance(value, str) and (naming or not _IDENTIFIER.fullmatch(value)):
        return reduced(value)
    return value


def whole(text: str) -> str:
    """The text itself; of a file's name, which need not be text, what can be written."""
    return text.encode(errors="replace").decode()


def _told_card(card: str, told: Callable[[str], str]) -> str:
    """The title stays one, as it says more than the text below it."""
    title, text = map(told, prose(card))
    return f"# {title}\n{text}" if title else text


def told_hints(hints: Hints, told: Callable[[str], str]) -> Hints:
    """Hints with every text as `told` (reduced or whole). Of a card and a sidecar, whose values may be anything, text and
    lists of text are kept: a probe reads nothing else."""

    def table(values: Mapping[str, Any] | None) -> dict[str, list[str]]:
        found = {
            str(key): [word for word in map(told, texts(value)) if word != REDACTED]
            for key, value in (values or {}).items()
        }
        return {key: words for key, words in found.items() if words}

    return replace(
        hints,
        repo_id=hints.repo_id and told(hints.repo_id),
        filename=hints.filename and told(hints.filename),
        card=table(hints.card),
        card_text=hints.card_text and _told_card(hints.card_text, told),
        sidecar=table(hints.sidecar),
    )
