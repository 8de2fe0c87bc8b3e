"""What is this file? Header-only probing of model files: no torch, no database, no network."""

from probes.containers.file import REMOTE_PREFIX, parse_header, read_header
from probes.containers.folder import Folder, merge_headers, read_folder
from probes.containers.weight_names import choose_weights, refuse_missing_parts
from probes.dump import dump_header, pack_dump, parse_dump, read_target
from probes.engine import probe
from probes.explanation import Explanation, explain
from probes.header import Header, HeaderIncomplete, TensorSpec, UnreadableModel
from probes.likeness import Likeness, Refutation
from probes.report import TAKEN, Choice, Evidence, Hints, Kind, Outcome, Report, Trait, choices_of
from probes.scan import SUFFIXES, Found, Stamp, is_one_model, models_below, scan_folder
from probes.wording import sentence

__all__ = [
    "REMOTE_PREFIX",
    "SUFFIXES",
    "TAKEN",
    "Choice",
    "Evidence",
    "Explanation",
    "Folder",
    "Found",
    "Header",
    "HeaderIncomplete",
    "Hints",
    "Kind",
    "Likeness",
    "Outcome",
    "Refutation",
    "Report",
    "Stamp",
    "TensorSpec",
    "Trait",
    "UnreadableModel",
    "choices_of",
    "choose_weights",
    "dump_header",
    "explain",
    "is_one_model",
    "merge_headers",
    "models_below",
    "pack_dump",
    "parse_dump",
    "parse_header",
    "probe",
    "read_folder",
    "read_header",
    "read_target",
    "refuse_missing_parts",
    "scan_folder",
    "sentence",
]
