"""What every request and answer is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from registry.plans import Sourced

# No control characters, which a line cannot show. In a name none of the characters either that take apart `<lora:name:0.8>` or a path.
PRINTED = r"^[^\x00-\x1f\x7f]*$"
NAME = r"^[^\x00-\x1f\x7f<>:/\\]*$"
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"  # a tab and a new line are allowed


SHA256 = "3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea"
REPORT = {
    "outcome": "identified",
    "kind": "lora",
    "family": "sd-1",
    "rank": 4,
    "evidence": [{"rule": "width", "ok": True, "key": "down_blocks.0.attentions.0.to_k", "expected": 768, "seen": 768}],
    "reason": "sd-1 lora: the shapes of its layers are those of no other family",
}
"""An example of what a probe answers, shortened."""


class Body(BaseModel):
    """A request: an unknown field is an error, so that a typing mistake does not silently do nothing; and true and "4" are no numbers.

    Of enumerations and bytes, which JSON has as text, a field says `strict=False`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


Family: TypeAlias = Annotated[
    str,
    Field(
        description="What you say that it is for, where its layers are those of several families. Shapes are never overruled.",
        examples=["sd-1"],
        max_length=50,
    ),
]
Sayable: TypeAlias = Annotated[
    Literal["checkpoint", "lora", "lcm_lora"],
    Field(
        description="What you say that it is: of a LoRA of a few-step layout lora or lcm_lora.", examples=["lcm_lora"]
    ),
]


class Value(BaseModel):
    """A value and where it came from: `requested`, `user`, `recommended` or `default`, and by whom."""

    model_config = ConfigDict(from_attributes=True)

    value: float | int | str = Field(examples=[0.75])
    origin: str = Field(examples=["recommended"])
    by: str = Field(examples=["model card of starter-outline-lora"])

    @classmethod
    def of(cls, sourced: Sourced[Any]) -> Self:
        return cls(value=sourced.value, origin=sourced.origin, by=sourced.by)


class BorrowedOut(BaseModel):
    id: str = Field(examples=["0f3a5c7e9b1d"])
    name: str = Field(examples=["flux-dev-folder"])
    digest: str | None = Field(description="SHA-256, else BLAKE3; None: not hashed yet.", examples=["9f86d081884c"])
    components: list[str] = Field(examples=[["text_encoder", "text_encoder_2", "vae"]])
