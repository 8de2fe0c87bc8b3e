"""Files of other programs say what they are, and what to take instead."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from probes import UnreadableModel, parse_header, read_header
from tests.probes import headers


def field(number: int, value: bytes) -> bytes:
    """Of a protocol buffer, with a length of one byte."""
    return bytes([number << 3 | 2, len(value)]) + value


NODE = field(1, field(1, b"input") + field(2, b"Placeholder"))
FILES = {
    # what it is: (its first bytes, code, what is said)
    "7-Zip": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(60), "archive", "a 7-Zip archive"),
    "RAR": (b"Rar!\x1a\7\1\0" + bytes(60), "archive", "a RAR archive"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(60), "unsupported_format", "an MP4 video"),
    "Keras weights": (b"\x89HDF\r\n\x1a\n" + bytes(60), "unsupported_format", "an HDF5 file"),
    "Flax weights": (b"\x88\xa7conv_in\x82\xa4bias" + bytes(60), "unsupported_format", "Flax keeps weights"),
    "Flax weights of many layers": (b"\xde\0\x12\xabdown_blocks" + bytes(60), "unsupported_format", "Flax"),
    "GGML": (b"tjgg\3\0\0\0" + bytes(60), "unsupported_format", "GGUF's predecessor"),
    "ONNX": (b"\x08\x07" + field(2, b"pytorch") + field(3, b"2.1.0"), "compiled_model", "an ONNX graph"),
    "ONNX without a producer": (b"\x08\x08\x3a\x90\x4e\n\x20" + bytes(60), "compiled_model", "an ONNX graph"),
    "TensorRT": (b"ftrt\0\0\0\0\xf0" + bytes(60), "compiled_model", "a TensorRT engine"),
    "TensorRT by Ultralytics": (b'\x10\1\0\0{"description": ', "compiled_model", "a TensorRT engine"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(60), "compiled_model", "TensorFlow Lite"),
    "ONNX Runtime": (b"\x18\0\0\0ORTM" + bytes(60), "compiled_model", "onnxruntime"),
    "SavedModel": (b"\x08\1" + field(2, b"\n\x60" + bytes(60)), "compiled_model", "TensorFlow SavedModel"),
    "frozen graph": (NODE + NODE, "compiled_model", "a TensorFlow graph"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="unet" version="11">\n', "compiled_model", ".bin file"),
}


@pytest.mark.parametrize(("data", "code", "said"), FILES.values(), ids=FILES)
def test_it_is_called_by_its_name(tmp_path: Path, data: bytes, code: str, said: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UnreadableModel) as caught:
        read_header(tmp_path / "x")
    assert caught.value.code == code
    assert said in str(caught.value)


class Doubled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(200, 200)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * 2


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(Doubled()), path)


def exported(path: Path) -> None:
    torch.export.save(torch.export.export(Doubled(), (torch.zeros(1, 200),)), path)


def arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, latents=np.zeros(4))


def pictures(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pictures/1.png", b"")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (script, "compiled_model", "a TorchScript program"),
        (exported, "compiled_model", "torch.export"),
        (arrays, "unsupported_format", "a NumPy archive"),
        (pictures, "zip_archive", "a zip archive"),
    ],
)
def test_a_zip_is_called_by_what_is_in_it(tmp_path: Path, make: Callable[[Path], None], code: str, said: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(UnreadableModel) as caught:
        read_header(tmp_path / "x")
    assert (caught.value.code, said in str(caught.value)) == (code, True)


def test_weights_that_torch_saved_are_a_pickle_still(tmp_path: Path) -> None:
    torch.save(Doubled().state_dict(), tmp_path / "x.pt")
    assert read_header(tmp_path / "x.pt").format == "torch_zip"


@pytest.mark.parametrize("first", [b"\x1f\x8b\x08\0", b"BZh\0", b"\xff\xd8\xff\0"])
def test_a_length_that_begins_like_another_file_is_one(first: bytes) -> None:
    """A safetensors file begins with the length of its header, any number below 100 MB."""
    (length,) = struct.unpack("<I", first)
    tensors = {"a": ("U8", (4,))}
    data = struct.pack("<Q", length) + headers.safetensors_bytes(tensors)[8:].ljust(length)
    assert parse_header(data, len(data) + 4).tensors.keys() == tensors.keys()
