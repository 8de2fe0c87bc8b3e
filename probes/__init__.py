"""What is this file? Header-only probing of model files: no torch, no database, no network."""

from probes.containers.file import REMOTE_PREFIX, parse_header, read_header
from probes.containers.folder import Folder, choose_weights, merge_headers, read_folder
from probes.engine import probe
from probes.header import Header, HeaderIncomplete, TensorSpec, UnreadableModel
from probes.report import TAKEN, Evidence, Hints, Kind, Outcome, Report, Trait
from probes.scan import Found, Stamp, scan_folder

__all__ = [
    "REMOTE_PREFIX",
    "TAKEN",
    "Evidence",
    "Folder",
    "Found",
    "Header",
    "HeaderIncomplete",
    "Hints",
    "Kind",
    "Outcome",
    "Report",
    "Stamp",
    "TensorSpec",
    "Trait",
    "UnreadableModel",
    "choose_weights",
    "merge_headers",
    "parse_header",
    "probe",
    "read_folder",
    "read_header",
    "scan_folder",
]
