"""The one settings object, and the only place that reads the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, IPvAnyNetwork, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is `MODELSHELF_<FIELD>` in the environment; the Hub's own variables keep the names its users know."""

    model_config = SettingsConfigDict(
        env_prefix="MODELSHELF_", env_file=None, env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    root: Path = Field(
        default_factory=lambda: Path.home() / "modelshelf",
        description="Folder that holds the models, the database and unfinished downloads.",
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL of the registry's database. Unset: SQLite in `root`.",
    )
    host: str = Field(default="127.0.0.1", description="Address that `modelshelf serve` listens on.")
    port: int = Field(default=8420, ge=0, le=65535, description="Port that `modelshelf serve` listens on; 0 picks one.")
    backend: str = Field(
        default="registry.backends.diffusers:DiffusersBackend",
        pattern=r"^[\w.]+:\w+$",
        description="What generates: `module:class` of a `registry.backends.Backend`, loaded into the service.",
    )
    device: str = Field(
        default="auto", description="Torch device for generation: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."
    )
    dtype: str = Field(
        default="auto",
        description="Precision of resident weights: `auto` (float16 on a GPU, float32 on a CPU), `float16`, `bfloat16`, `float32`.",
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="Budget in GiB for resident weights, the least recently used go first. "
        "Unset: 80 % of a GPU's memory, half of a machine's.",
    )
    host_memory_gib: float | None = Field(
        default=None,
        ge=0,
        description="Budget in GiB for checkpoints that had to leave a GPU. Unset: a quarter of the machine's memory; none without a GPU.",
    )
    keep_alive_minutes: float | None = Field(
        default=None,
        gt=0,
        description="How long weights stay loaded that nobody uses. Unset: until their room is needed.",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        description="Most pictures denoised in one pass; 1 makes each bit for bit the one that its seed gives alone. Unset: 4.",
    )
    queue: int = Field(
        default=64, ge=1, description="Generations that may wait; beyond it a request is answered 429 with Retry-After."
    )
    download_timeout: float = Field(
        default=30.0, gt=0, description="Seconds without a byte after which a connection counts as lost."
    )
    download_patience: float = Field(
        default=600.0,
        ge=0,
        description="Seconds that a download which has begun waits for a lost connection to come back, before it counts as failed.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("civitai.com",),
        description="Hosts, beside the Hub, whose https addresses may be installed from; commas between them, `*.example.com` for all "
        "below, `*` for every one.",
    )
    allowed_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        default=(),
        description="Private networks that may be connected to nonetheless, also over http: `10.1.0.0/16`, with commas between them. "
        "For a Hub mirror in one's own network, and for tests.",
    )
    allowed_folders: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders on this machine, beside the root, that the service may be asked to scan or to install from, with commas "
        "between them; those that `modelshelf scan` was given on the machine itself may be scanned again anyway.",
    )
    download_connections: int = Field(
        default=4,
        ge=1,
        le=16,
        description="Connections that one large file may be split over, as long as each more makes it faster.",
    )
    installs_at_once: int = Field(
        default=3, ge=1, le=64, description="Installs that run side by side; the others wait their turn."
    )
    keep_installs_days: float = Field(
        default=30,
        ge=0,
        description="Days after which `serve` forgets an install that has ended, and its partial files.",
    )
    hub_endpoint: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("HF_ENDPOINT", "hub_endpoint"),
        pattern=r"^https?://[^/]",
        description="The Hugging Face Hub, or a mirror that speaks its API.",
    )
    hub_token: str | None = Field(
        default=None,
        validation_alias=AliasChoices("HF_TOKEN", "hub_token"),
        description="Access token for private and gated repositories.",
        repr=False,
    )

    civitai_endpoint: str = Field(
        default="https://civitai.com",
        pattern=r"^https?://[^/]",
        description="Civitai, or a server that speaks its API: it is asked what it knows of the files that come from there.",
    )
    civitai_token: str | None = Field(
        default=None,
        validation_alias=AliasChoices("CIVITAI_API_TOKEN", "civitai_token"),
        description="Key of an account there, for what it shows to accounts only.",
        repr=False,
    )

    @field_validator("allowed_hosts", "allowed_networks", "allowed_folders", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def database(self) -> str:
        """The URL in force."""
        return self.database_url or f"sqlite:///{self.root / 'modelshelf.db'}"

    @property
    def downloads(self) -> Path:
        """Unfinished downloads: on the same file system as the models, so that finishing one is a rename."""
        return self.root / ".downloads"
