"""The one settings object, and the only place that reads the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, IPvAnyNetwork, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_VISIBLE = re.compile(r"[!-~]+")


def service_address(text: str) -> str:
    """A service's address as people type it: `gpu.example:8420` is `http://gpu.example:8420`. Raises ValueError."""
    address = text if "://" in text else f"http://{text}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # `port` raises beyond 65535
        raise ValueError(f"{text!r} is no address of a service, such as http://127.0.0.1:8420")
    return address


class Shown(NamedTuple):
    """A setting for people. `value` is JSON-ready; `default`: nobody has set it."""

    name: str
    variable: str
    value: Any
    default: bool
    description: str


class Terminal(BaseSettings):
    """What everybody's variables ask of whatever writes to a terminal."""

    no_color: str = Field(default="", validation_alias="NO_COLOR")


class Settings(BaseSettings):
    """Each field is `MODELSHELF_<FIELD>` in the environment; the Hub's own variables keep the names its users know."""

    model_config = SettingsConfigDict(
        env_prefix="MODELSHELF_",
        env_file=None,
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
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
    server: str | None = Field(
        default=None,
        description="Address of a running service that the command line works against, as with `--server`. Unset: it works by itself.",
    )
    token: str | None = Field(
        default=None,
        description="Token that the command line shows to that service (`modelshelf token create` makes one).",
        repr=False,
    )
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
        description="Budget in GiB for resident weights; the least recently used go first, by hand loaded ones too. "
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
    compile: str | None = Field(
        default=None,
        description="Compiler for the denoiser, a `torch.compile` backend: `inductor`, `cudagraphs`. The first picture of each size then "
        "takes minutes, the others less. Unset: none.",
    )
    queue: int = Field(
        default=64, ge=1, description="Generations that may wait; beyond it a request is answered 429 with Retry-After."
    )
    max_pictures: int = Field(default=16, ge=1, description="Most pictures that one request may ask for.")
    max_side: int = Field(default=4096, ge=8, description="Most pixels that a picture may have on a side.")
    max_prompt: int = Field(
        default=10_000, ge=1, description="Most characters of a prompt; what a model reads of it is far less."
    )
    max_body_mib: float = Field(default=64, gt=0, description="Most MiB of a request's body; beyond it, 413.")
    requests_per_minute: int = Field(
        default=6000, ge=1, description="Requests that one token may make in a minute; beyond it, 429 with Retry-After."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How `serve` logs to standard error: `text` for people, `json`, an object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="From what level on: `debug`, `info` (a line for every request), `warning`, `error`.",
    )
    download_timeout: float = Field(
        default=30.0, gt=0, description="Seconds without a byte after which a connection counts as lost."
    )
    download_patience: float = Field(
        default=600.0,
        ge=0,
        description="Seconds that an install which is queued or has begun waits for a lost connection, also after a restart, before it "
        "fails.",
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
        default=3,
        ge=1,
        le=64,
        description="Installs that run side by side; the others wait their turn. One that waits for a lost connection does not count.",
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

    @field_validator("server")
    @classmethod
    def _server(cls, value: str | None) -> str | None:
        return value and service_address(value)

    @field_validator("token", "hub_token", "civitai_token")
    @classmethod
    def _header(cls, value: str | None) -> str | None:
        """What may stand in a header; errors of the HTTP library would quote all of it."""
        value = value.strip() if value else None
        if value and not _VISIBLE.fullmatch(value):
            raise ValueError("a token holds no blanks, line ends or letters beyond ASCII")
        return value or None

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable of a setting."""
        alias = cls.model_fields[name].validation_alias
        return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"MODELSHELF_{name.upper()}"

    def shown(self) -> Iterator[Shown]:
        """Every setting as others may see it: of a secret whether there is one, of a database its kind, of an address no password."""
        for name, value in self.model_dump(mode="json").items():
            field = type(self).model_fields[name]
            if not field.repr:
                value = "set" if value else None
            elif name == "database_url" and value:
                value = f"{value.partition('://')[0]}://..."  # a password may stand in several places of it
            elif name == "hub_endpoint":
                value = re.sub(r"(?<=//)[^/]*@", "", value)
            yield Shown(name, self.variable(name), value, name not in self.model_fields_set, field.description or "")

    @property
    def database(self) -> str:
        """The URL in force."""
        return self.database_url or f"sqlite:///{self.root / 'modelshelf.db'}"

    @property
    def address(self) -> str:
        """Where a client on this machine finds the service that `serve` starts with these settings."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"

    @property
    def reachable(self) -> tuple[Path, ...]:
        """Folders on this machine that may be asked for over the network."""
        return (self.root, *self.allowed_folders)

    @property
    def downloads(self) -> Path:
        """Unfinished downloads: on the same file system as the models, so that finishing one is a rename."""
        return self.root / ".downloads"
