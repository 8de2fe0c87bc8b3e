"""What people may name to install from, and its one parser.

Importing this module is cheap: huggingface_hub, whose URL grammar is used, and probes are imported when an address asks for them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit, urlunsplit

from registry.errors import InvalidSource
from registry.starter import starter_repositories, starter_repository

ACCEPTED = (
    "Accepted: a model's page on huggingface.co, or a file or folder in it "
    "(https://huggingface.co/OWNER/REPO/blob/REV/FILE); hf://OWNER/REPO[@REV][/FILE]; OWNER/REPO[@REV][:FILE or FOLDER]; "
    "an https:// address of a file; a model on Civitai (https://civitai.com/models/ID, with ?modelVersionId=ID or its newest version); "
    "a path on this machine (./FILE)."
)
CIVITAI = "civitai.com"
CIVITAI_PAGE = re.compile(r"/models/(\d+)(?:/[^/]*)?/?")  # of a model there; the rest is its name
PUBLIC_HUB = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
LONGEST = 1024  # characters; macOS' PATH_MAX, the shortest in use, beyond which the system refuses to look
_WRITTEN_AS_PATH = re.compile(r"[/~]|\.{1,2}(?:/|$)|[A-Za-z]:[\\/]|\.{0,2}\\")
_UNWRITABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DRIVE = re.compile(r"[A-Za-z]:")
_REPOSITORY = re.compile(r"([^/@:]+/[^/@:]+)(?:@([^:]+))?(?::(.+))?")  # OWNER/REPO[@REV][:FILE or FOLDER]
# Names of query parameters that open an account, whoever shows them; and of those that sign one address for some minutes.
_SECRET = re.compile(
    r"token|secret|passw|auth(?!ors?(?![a-z]))|credential|(?:api|access|private)[_-]?key|^key$", re.IGNORECASE
)
_SIGNATURE = re.compile(
    r"x-(?:amz|goog)-.+|signature|sig|expires|policy|key-pair-id|awsaccesskeyid|s[vertikdp]|sks?", re.IGNORECASE
)
# Refs that the Hub writes with a slash and its URL grammar takes whole (huggingface_hub.utils._hf_uris).
_SLASHED_REF = re.compile(r"refs/(?:convert/[\w.-]+|pr/\d+)")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on the Hub.

    `revision`: branch, tag or commit, None for the default branch. `path`: a file or sub-folder in it, "" for all.
    """

    repo_id: str
    revision: str | None = None
    path: str = ""

    def __str__(self) -> str:
        revision = f"@{_revision(self.revision)}" if self.revision else ""
        return f"hf://{self.repo_id}{revision}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, slots=True)
class UrlSource:
    """One file behind an address that is not the Hub's."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file or folder on this machine; absolute. Whether it exists is asked when it is opened."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class StarterSource:
    """One of the models that ship with modelshelf, wherever that is installed."""

    name: str

    def __str__(self) -> str:
        return f"starter://{self.name}"


Source = HubSource | UrlSource | PathSource | StarterSource


def parse_source(text: str, *, endpoint: str, confined: bool = False) -> Source:
    """What `text` names. `endpoint` is the configured Hub; its addresses count as the Hub's, besides the public ones. `confined`: it comes
    over the network, from where a path is absolute: working directory and home are the service's own, and nothing is looked up by name.

    In this order: an address (`scheme://`, or a Hub's host without one); what is written like a path (`/x`, `./x`,
    `../x`, `~/x`); what exists on disk, seen from the working directory; `OWNER/REPO`. So a folder `owner/repo` that is
    there wins over the repository of that name, as in diffusers and transformers; hf://owner/repo is always the Hub's.

    `str()` of the result parses to the same value again, whatever the working directory. Raises InvalidSource.
    """
    text = text.strip()
    if not text:
        raise InvalidSource(f"No source was given. {ACCEPTED}")
    if not is_writable(text):
        raise InvalidSource(
            f"{text!r} has control characters, or bytes that are not UTF-8, which no address or recorded path has. "
            f"Rename it if it is a file of yours. {ACCEPTED}"
        )
    hub = urlsplit(endpoint)
    scheme, separator, _ = text.partition("://")
    if not separator and text.lower().partition("/")[0] in PUBLIC_HUB | {hub.netloc.lower()}:
        scheme, text = hub.scheme, f"{hub.scheme}://{text}"
    elif not separator:
        return _parse_bare(text, confined)
    match scheme.lower():
        case "hf":
            return _parse_hub(f"hf://{text[len('hf://') :]}", text, endpoint)
        case "http" | "https":
            return _parse_url(text, endpoint)
        case "starter":
            return _parse_starter(text)
    raise InvalidSource(f"{scheme}:// is no scheme that can be installed from. {ACCEPTED}")


def without_signature(url: str) -> str:
    """An address to record: what signs it for some minutes is nobody else's, and of no use to anyone."""
    address = urlsplit(url)
    if not address.query:
        return url
    kept = [pair for pair in address.query.split("&") if not _SIGNATURE.fullmatch(unquote(pair.partition("=")[0]))]
    return urlunsplit(address._replace(query="&".join(kept)))


def is_writable(text: str) -> bool:
    """Whether a path or an address may hold it: no control character, no half of a surrogate pair, and no separator of lines. Spaces of
    every kind are innocent: macOS writes U+202F into the names of its screenshots."""
    return _UNWRITABLE.isdisjoint(map(unicodedata.category, text))


def relative_path(text: str) -> str:
    """`text` itself, when it is a plain path downwards ("a/b.json") on every operating system; else ValueError."""
    if (
        not text
        or not is_writable(text)
        or "\\" in text
        or _DRIVE.match(text)
        or not {"", ".", ".."}.isdisjoint(text.split("/"))
    ):
        raise ValueError(f"{text!r} is not a plain relative path")
    return text


def _parse_starter(text: str) -> StarterSource:
    name = text.partition("://")[2]
    if starter_repository(name) is None:
        there = ", ".join(f"starter://{folder.name}" for folder in starter_repositories())
        raise InvalidSource(f"{text!r} is no starter model; there are {there}. {ACCEPTED}")
    return StarterSource(name)


def _parse_bare(text: str, confined: bool) -> Source:
    path = Path(text)
    if len(text) > LONGEST:
        raise InvalidSource(f"That is {len(text)} characters, which no path or repository has. {ACCEPTED}")
    if confined and not path.is_absolute() and _WRITTEN_AS_PATH.match(text):
        raise InvalidSource(f"{text!r} is no absolute path, and from another machine no other can be meant. {ACCEPTED}")
    if _WRITTEN_AS_PATH.match(text) or (not confined and _is_there(path)):
        try:
            return PathSource(Path(path.expanduser().absolute()))
        except RuntimeError as error:  # ~nobody
            raise InvalidSource(f"{text!r} is nowhere: {error} {ACCEPTED}") from error
    if (found := _REPOSITORY.fullmatch(text)) and (found[2] or found[3]):
        uri = (
            f"hf://{found[1]}" + (f"@{_revision(found[2])}" if found[2] else "") + (f"/{found[3]}" if found[3] else "")
        )
        return _parse_hub(uri, text, None)
    from probes.scan import SUFFIXES

    if path.suffix.lower() in SUFFIXES:  # no repository is named so
        raise InvalidSource(
            f"There is no file {text!r} here. For one in a repository write hf://OWNER/REPO/FILE. {ACCEPTED}"
        )
    if text.count("/") != 1 or "@" in text:
        raise InvalidSource(f"{text!r} is neither OWNER/REPO nor something on this machine. {ACCEPTED}")
    return _parse_hub(f"hf://{text}", text, None)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for any file
        return False


def _parse_url(text: str, endpoint: str) -> Source:
    try:
        address = urlsplit(text)
        host, _ = address.hostname, address.port
    except ValueError as error:
        raise InvalidSource(f"{text!r} is not an address: {error}. {ACCEPTED}") from error
    if address.username is not None:
        raise InvalidSource("An address must not hold a user name or password; it is recorded with the model.")
    # By host and port: other ports of the endpoint's host are other servers, which huggingface_hub does not tell apart.
    if address.netloc.lower() == urlsplit(endpoint).netloc.lower():
        return _parse_hub(text, text, endpoint)
    if host in PUBLIC_HUB:
        return _parse_hub(text.replace("://www.", "://", 1), text, None)
    # A machine named by its number may be one in a network that the settings let in; whether it is, is asked when it is spoken to.
    if address.scheme.lower() != "https" and not _is_literal(host or ""):
        raise InvalidSource(
            f"{address.netloc} must be named with https://; http:// bytes could be anybody's. {ACCEPTED}"
        )
    if not host or not PurePosixPath(unquote(address.path)).name:
        raise InvalidSource(f"{text!r} names no file. {ACCEPTED}")
    if secret := next((name for name in parse_qs(address.query) if _is_secret(name)), None):
        raise InvalidSource(
            f"An address must not hold a secret ({secret}=...); it is recorded with the model. Download "
            "the file yourself, and install it from its path."
        )
    address = address._replace(scheme=address.scheme.lower(), fragment="")
    return UrlSource(urlunsplit(_civitai(address) if host.removeprefix("www.") == CIVITAI else address))


def _is_secret(parameter: str) -> bool:
    return _SECRET.search(parameter) is not None and _SIGNATURE.fullmatch(parameter) is None


def _revision(name: str) -> str:
    """As it stands in an hf:// address."""
    return name if _SLASHED_REF.fullmatch(name) else quote(unquote(name), safe="")


def _civitai(address: SplitResult) -> SplitResult:
    """A model's page names no file: it becomes the address of its version's, or stays, for its newest version to be looked up."""
    address = address._replace(netloc=CIVITAI)
    if not (page := CIVITAI_PAGE.fullmatch(address.path)):
        return address
    version = parse_qs(address.query).get("modelVersionId", [""])[0]
    path = f"/api/download/models/{version}" if version.isdecimal() else f"/models/{page[1]}"
    return address._replace(path=path, query="")


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _parse_hub(uri: str, text: str, endpoint: str | None) -> HubSource:
    from huggingface_hub import parse_hf_uri
    from huggingface_hub.errors import HfUriError

    try:
        found = parse_hf_uri(uri, endpoint=endpoint)
    except HfUriError as error:
        raise InvalidSource(f"{text!r} names no model repository: {error.msg.strip()} {ACCEPTED}") from error
    if found.type != "model":
        raise InvalidSource(f"{text!r} is a {found.type}; only model repositories hold models. {ACCEPTED}")
    path = found.path_in_repo.rstrip("/")
    if not uri.startswith("hf:"):
        path = path.replace("%2F", "/")  # the one escape of web addresses that parse_hf_uri leaves
    try:
        path = relative_path(path) if path else ""
    except ValueError as error:
        raise InvalidSource(f"{error}, so no file in a repository. {ACCEPTED}") from error
    return HubSource(found.id, found.revision, path)
