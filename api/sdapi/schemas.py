"""What /sdapi/v1 takes and answers; names and defaults are WebUI's.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/api/models.py
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

IN_VAIN: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("enable_hr", "restore_faces", "tiling", "script_name", "alwayson_scripts", "styles"), ()),
    **dict.fromkeys(("mask", "refiner_checkpoint", "subseed_strength", "s_churn", "s_tmin"), ()),
    **dict.fromkeys(("seed_resize_from_h", "seed_resize_from_w"), (-1,)),
    **dict.fromkeys(("eta", "s_noise", "clip_skip"), (1,)),
}
"""What would make other pictures, if it could be done here, with the values beside None and zero that leave them as they are: with any
other it is refused. `eta` is 1 for ancestral samplers and 0 for the others unless said otherwise, and clients send either."""

MEANINGLESS = {
    "hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name",
    "hr_scheduler", "hr_prompt", "hr_negative_prompt", "hr_additional_modules", "firstphase_width", "firstphase_height",
    "denoising_strength", "subseed", "s_tmax", "script_args", "do_not_save_samples", "do_not_save_grid", "save_images",
    "force_task_id", "infotext", "comments", "disable_extra_networks", "refiner_switch_at", "resize_mode", "image_cfg_scale",
    "mask_blur", "mask_blur_x", "mask_blur_y", "mask_round", "inpainting_fill", "inpaint_full_res", "inpaint_full_res_padding",
    "inpainting_mask_invert", "initial_noise_multiplier", "latent_mask", "include_init_images",
}  # fmt: skip
"""WebUI's other fields: of what is refused above, or of files that its server would keep. Every client sends them, so nothing is said."""


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
        given = self.model_extra or {}
        return [name for name, harmless in IN_VAIN.items() if (value := given.get(name)) and value not in harmless]

    def unheard(self) -> list[str]:
        """What is asked for and no field of WebUI's: perhaps a slip."""
        return [name for name in self.model_extra or {} if name not in IN_VAIN and name not in MEANINGLESS]


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
