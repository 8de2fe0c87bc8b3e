"""Every error that modelshelf tells a user about. Codes are stable; `api/problems.py` alone knows their HTTP status.

ModelshelfError                   error                   an error of modelshelf itself
├── InvalidRequest                invalid_request         a field's value cannot be used
│   ├── InvalidSource             invalid_source          not a URL, repository id or path that can be installed from
│   └── LocalOnly                 local_only              a command on this machine's own database, asked of a service elsewhere
├── WrongState                    wrong_state             an install that has ended, or is elsewhere, cannot be moved so
├── TokenRequired                 token_required          the service listens beyond this machine, and no token was shown
├── InsufficientScope             insufficient_scope      the token that was shown is not for this
├── RequestRefused                request_refused         asked under another host's name than this machine's, or by another site's page
├── RequestTooLarge               request_too_large       the body has more bytes than the service takes
├── RateLimited                   rate_limited            too many requests with one token; `detail` has `retry_after`, in seconds
├── MethodNotAllowed              method_not_allowed      the address is there, but not for this method
├── CannotListen                  cannot_listen           `serve` cannot have its address: in use, not this machine's, not allowed
├── NotReady                      not_ready               the service cannot work now: its database or its folder is out of reach
├── NotFound                      not_found               nothing is at this address
│   ├── ModelNotFound             model_not_found         no such model in the registry
│   ├── InstallNotFound           install_not_found       no such install, or it was forgotten
│   ├── GenerationNotFound        generation_not_found    no such generation, or it ended so long ago that it was forgotten
│   ├── PictureNotFound           picture_not_found       the address of a picture has expired, or the picture was forgotten
│   ├── ScanNotFound              scan_not_found          no such scan, or it was forgotten
│   ├── TaskNotFound              task_not_found          no such task, or it was forgotten
│   ├── TokenNotFound             token_not_found         no such token, or it was revoked
│   ├── RepositoryNotFound        repository_not_found    the Hub has no such repository, or it is private
│   ├── RevisionNotFound          revision_not_found      the repository has no such branch, tag or commit
│   ├── FileMissing               file_not_found          the repository, folder or disk has no such file
│   └── NotResident               not_resident            the model is in no memory, so that it cannot be put out of it
├── Refused                       refused                 the source is reachable, its content is not taken
│   ├── GatedRepository           gated_repository        its terms must be accepted on the Hub first
│   ├── TokenRefused              token_refused           the Hub does not accept the HF_TOKEN that it was shown
│   ├── HostRefused               host_refused            the host is not among those that may be installed from
│   ├── AddressRefused            address_refused         the host is inside of this machine or its network, or spoken to in plain http
│   ├── PathRefused               path_refused            a path from the network that leads out of the allowed folders
│   ├── NoWeights                 no_weights              nothing in it is a weight file
│   ├── AmbiguousChoice           ambiguous_choice        several weight files; the user must name one
│   ├── UnusableFile              unusable_file           not a model file, truncated, lying, or a pickle (`detail` has the probe's code)
│   ├── NotIdentified             not_identified          a weight file that no signature, or more than one, matches
│   ├── NotAsSaid                 not_as_said             the shapes exclude the family or kind that was said; `detail` has what they allow
│   └── KindNotTaken              kind_not_taken          recognised (a VAE, a ControlNet ...) but not managed here
├── TransferFailed                transfer_failed         the bytes did not come
│   ├── HubUnreachable            hub_unreachable         no connection, time-out, 5xx after the retries
│   │   └── HubUnusable           hub_unusable            no hub answers there, or one that withholds its files: waiting does not help
│   ├── ServiceUnreachable        service_unreachable     no `modelshelf serve` answers at the configured address
│   ├── DownloadIncomplete        download_incomplete     the connection ended early; the bytes so far are kept
│   │   └── DownloadShort         download_short          the server has less than was announced: waiting does not help
│   └── DigestMismatch            digest_mismatch         the bytes are not those that the Hub announced
├── DatabaseUnavailable           database_unavailable    it cannot be opened, is locked for too long, or is no database
├── StorageFull                   storage_full            no space left for the file
├── NotSaved                      not_saved               pictures were made, and could not be written to the folder that was asked for
├── Cancelled                     cancelled               the user stopped it; what was fetched so far is kept
├── IncompatibleAdapter           incompatible_adapter    the LoRA's tensors do not fit the checkpoint
├── QueueFull                     queue_full              too many generations wait; `detail` has `retry_after`, in seconds
└── GenerationFailed              generation_failed       no picture could be made
    ├── BackendUnavailable        backend_unavailable     what the setting `backend` names cannot be loaded
    ├── NotGenerable              not_generable           this checkpoint cannot be run by the backend, and why
    └── OutOfMemory               out_of_memory           too little memory for it, ever or beside what is in use: the message says which
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


class ModelshelfError(Exception):
    """`message`: what went wrong and what to do, one or two sentences. `detail`: JSON-ready facts for programs."""

    code = "error"

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class InvalidRequest(ModelshelfError):
    code = "invalid_request"


class InvalidSource(InvalidRequest):
    code = "invalid_source"


class LocalOnly(InvalidRequest):
    code = "local_only"


class WrongState(ModelshelfError):
    code = "wrong_state"


class TokenRequired(ModelshelfError):
    code = "token_required"


class InsufficientScope(ModelshelfError):
    code = "insufficient_scope"


class RequestRefused(ModelshelfError):
    code = "request_refused"


class RequestTooLarge(ModelshelfError):
    code = "request_too_large"


class RateLimited(ModelshelfError):
    code = "rate_limited"


class MethodNotAllowed(ModelshelfError):
    code = "method_not_allowed"


class CannotListen(ModelshelfError):
    code = "cannot_listen"


class NotReady(ModelshelfError):
    code = "not_ready"


class NotFound(ModelshelfError):
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class InstallNotFound(NotFound):
    code = "install_not_found"


class GenerationNotFound(NotFound):
    code = "generation_not_found"


class PictureNotFound(NotFound):
    code = "picture_not_found"


class ScanNotFound(NotFound):
    code = "scan_not_found"


class TaskNotFound(NotFound):
    code = "task_not_found"


class TokenNotFound(NotFound):
    code = "token_not_found"


class RepositoryNotFound(NotFound):
    code = "repository_not_found"


class RevisionNotFound(NotFound):
    code = "revision_not_found"


class FileMissing(NotFound):
    code = "file_not_found"


class NotResident(NotFound):
    code = "not_resident"


class Refused(ModelshelfError):
    code = "refused"


class GatedRepository(Refused):
    code = "gated_repository"


class TokenRefused(Refused):
    code = "token_refused"


class HostRefused(Refused):
    code = "host_refused"


class AddressRefused(Refused):
    code = "address_refused"


class PathRefused(Refused):
    code = "path_refused"


class NoWeights(Refused):
    code = "no_weights"


class AmbiguousChoice(Refused):
    code = "ambiguous_choice"


class UnusableFile(Refused):
    code = "unusable_file"


class NotIdentified(Refused):
    code = "not_identified"


class NotAsSaid(Refused):
    code = "not_as_said"


class KindNotTaken(Refused):
    code = "kind_not_taken"


class TransferFailed(ModelshelfError):
    code = "transfer_failed"


class HubUnreachable(TransferFailed):
    code = "hub_unreachable"


class HubUnusable(HubUnreachable):
    code = "hub_unusable"


class ServiceUnreachable(TransferFailed):
    code = "service_unreachable"


class DownloadIncomplete(TransferFailed):
    code = "download_incomplete"


class DownloadShort(DownloadIncomplete):
    code = "download_short"


class DigestMismatch(TransferFailed):
    code = "digest_mismatch"


class DatabaseUnavailable(ModelshelfError):
    code = "database_unavailable"


class StorageFull(ModelshelfError):
    code = "storage_full"


class NotSaved(ModelshelfError):
    code = "not_saved"


class Cancelled(ModelshelfError):
    code = "cancelled"


class IncompatibleAdapter(ModelshelfError):
    code = "incompatible_adapter"


class QueueFull(ModelshelfError):
    code = "queue_full"


class GenerationFailed(ModelshelfError):
    code = "generation_failed"


class BackendUnavailable(GenerationFailed):
    code = "backend_unavailable"


class NotGenerable(GenerationFailed):
    code = "not_generable"


class OutOfMemory(GenerationFailed):
    code = "out_of_memory"


def recreate(code: str, message: str, detail: Mapping[str, Any]) -> ModelshelfError:
    """The error that a service answered or a row recorded; of an unknown code (a newer service's) the root of the tree, with that code."""
    known = {cls.code: cls for cls in every_error()}
    error = known.get(code, ModelshelfError)(message, **detail)
    error.code = code
    return error


def every_error(cls: type[ModelshelfError] = ModelshelfError) -> Iterator[type[ModelshelfError]]:
    """The tree, each class before those below it."""
    yield cls
    for child in cls.__subclasses__():
        yield from every_error(child)


def meanings() -> dict[str, str]:
    """Code -> what it means, as the tree above says it."""
    return dict(re.findall(r"^[│├└─ ]*\w+ {2,}([a-z_]+) {2,}(\S.*)$", __doc__ or "", re.MULTILINE))
