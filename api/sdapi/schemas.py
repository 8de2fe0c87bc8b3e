"""What /sdapi/v1 takes and answers; names and defaults are WebUI's.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/api/models.py
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

IN_VAIN = (
    *("enable_hr", "restore_faces", "tiling", "subseed_strength", "script_name", "alwayson_scripts", "styles"),
    *("mask", "refiner_checkpoint"),
)
"""What would make other pictures, if it could be done here: asked for, it is refused. Whatever else is not named below changes nothing."""


class Text2Image(BaseModel):
    """Left out, the sampler, its steps, CFG and the size are decided by the recipes, as everywhere here."""

    model_config = ConfigDict(extra="allow")

    prompt: str = Field(default="", examples=["a red circle on a white background <lora:starter-outline-lora:0.8>"])
    negative_prompt: str = ""
    seed: int | None = Field(default=-1, ge=-1, lt=2**32, description="-1: at random.")
    sampler_name: str | None = Field(default=None, examples=["Euler a"])
    sampler_index: str | None = Field(default=None, description="The older name of sampler_name.")
    scheduler: str | None = Field(default=None, examples=["karras"])
    batch_size: int = Field(default=1, ge=1)
    n_iter: int = Field(default=1, ge=1, le=100, description="How many batches, one after the other.")
    steps: int | None = Field(default=None, examples=[4])
    cfg_scale: float | None = None
    width: int | None = Field(default=None, description="pixels", examples=[64])
    height: int | None = Field(default=None, description="pixels", examples=[64])
    override_settings: dict[str, Any] = Field(default={}, examples=[{"sd_model_checkpoint": "starter-base"}])
    override_settings_restore_afterwards: bool = True
    send_images: bool = True

    def refused(self) -> list[str]:
        """What is asked for and cannot be done."""
        return [name for name in IN_VAIN if (self.model_extra or {}).get(name)]


class Image2Image(Text2Image):
    init_images: list[str] = Field(
        description="One picture in base64, with or without `data:...;base64,` before it.",
        min_length=1,
        max_length=1,
        examples=[["iVBORw0KGgo..."]],
    )
    denoising_strength: float | None = Field(default=None, ge=0, le=1)


class Images(BaseModel):
    images: list[str] = Field(description="PNG files in base64.", examples=[["iVBORw0KGgo..."]])
    parameters: dict[str, Any] = Field(
        description="The request, without its pictures.", examples=[{"prompt": "a red circle", "steps": 4}]
    )
    info: str = Field(
        description="JSON: seeds, infotexts, model, warnings.", examples=['{"seed": 7, "infotexts": ["..."]}']
    )


class Checkpoint(BaseModel):
    title: str = Field(description="What `sd_model_checkpoint` takes.", examples=["starter-base [0123456789]"])
    model_name: str = Field(examples=["starter-base"])
    hash: str | None = Field(description="10 hex digits")
    sha256: str | None
    filename: str = Field(examples=["/models/checkpoint/sd-1/starter-base"])
    config: str | None = None


class Lora(BaseModel):
    name: str = Field(description="What a prompt calls it by, `<lora:name:0.8>`.", examples=["starter-outline-lora"])
    alias: str = Field(description="The name that it was trained under, which works as well.", examples=["outline"])
    path: str = Field(examples=["/models/lora/sd-1/starter-outline-lora.safetensors"])
    metadata: dict[str, Any] = Field(examples=[{"ss_output_name": "outline"}])


class Sampler(BaseModel):
    name: str = Field(examples=["DPM++ 2M Karras"])
    aliases: list[str] = Field(examples=[["dpmpp_2m_karras"]])
    options: dict[str, str] = {}


class Spacing(BaseModel):
    name: str = Field(examples=["karras"])
    label: str = Field(examples=["Karras"])
    aliases: list[str] | None = None
    default_rho: float = -1
    need_inner_model: bool = False


class State(BaseModel):
    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = Field(default=0, description="Batches of the request; 0: nothing is being done.")
    job_timestamp: str = ""
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class Progress(BaseModel):
    progress: float = Field(default=0, ge=0, le=1, examples=[0.4])
    eta_relative: float = Field(default=0, description="seconds")
    state: State = State()
    current_image: str | None = Field(default=None, description="The picture in the making: PNG in base64.")
    textinfo: str | None = None


class Options(BaseModel):
    """Of WebUI's settings, those that mean something here."""

    sd_model_checkpoint: str | None = Field(
        description="Title of the checkpoint that is used when none is named.", examples=["starter-base [0123456789]"]
    )
    sd_checkpoint_hash: str | None = Field(description="SHA-256; none for a folder.")
    samples_format: Literal["png"] = "png"
    CLIP_stop_at_last_layers: Literal[1] = 1


class OptionsIn(BaseModel):
    model_config = ConfigDict(extra="allow")

    sd_model_checkpoint: str | None = Field(default=None, examples=["starter-base"])


class OptionsSet(BaseModel):
    ignored: list[str] = Field(description="Settings that mean nothing here.", examples=[["sd_vae"]])


class Scripts(BaseModel):
    txt2img: list[str] = []
    img2img: list[str] = []
