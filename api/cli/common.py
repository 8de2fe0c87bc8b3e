"""What commands share beside their output: arguments and exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

FAILED = 1  # exit code of every command whose error is one line; `probe` has two more of its own
USAGE = 2  # as typer has it for options that it does not know
INTERRUPTED = 130  # by Ctrl-C: 128 and the number of SIGINT, as shells count

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Source = Annotated[
    list[str],
    typer.Argument(
        help="Hugging Face URL, hf://OWNER/REPO, OWNER/REPO, https URL of a file, or a path.", show_default=False
    ),
]

Family = Annotated[
    str | None,
    typer.Option(
        help="What you say that it is for, such as sd-1 or kolors, where its layers are those of several. Shapes are never overruled."
    ),
]
Kind = Annotated[str | None, typer.Option(help="lora or lcm_lora: what you say that a LoRA of a few-step layout is.")]

Steps = Annotated[int | None, typer.Option(help="How many denoising steps.")]
Cfg = Annotated[
    float | None, typer.Option(help="Guidance scale: how closely the prompt is followed; 1 is no guidance.")
]
SchedulerName = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="ddim, ddpm, pndm, euler, euler_a, heun, dpm2, dpm2_a, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, dpmpp_sde, unipc, deis, lcm or "
        "tcd; of most also with _karras or _trailing at the end.",
    ),
]


def model_names(incomplete: str) -> list[str]:
    """For the shell's completion. Whatever is wrong, it offers nothing: there is nobody to tell."""
    from api.cli.opening import opened_shelf
    from registry.errors import ModelshelfError

    try:
        with opened_shelf() as shelf:
            return [model.name for model in shelf.models(q=incomplete or None) if model.name.startswith(incomplete)]
    except (ModelshelfError, OSError, ValueError):
        return []


_NAME = {"help": "Id or name of a model.", "show_default": False, "autocompletion": model_names}
Reference = Annotated[str, typer.Argument(**_NAME)]
References = Annotated[list[str], typer.Argument(**{**_NAME, "help": "Ids or names of models."})]
EveryReference = Annotated[list[str] | None, typer.Argument(**{**_NAME, "help": "Ids or names. Left out: all."})]
