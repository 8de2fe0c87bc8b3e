"""Runs in the environment of `invokeai`, without modelshelf: a path a line on stdin, what InvokeAI takes it for a line on
stdout, both as JSON. The first line is what it takes at all."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import json
import logging
import os
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import torch

STAND_INS = ("torchvision", "cv2", "onnxruntime", "mediapipe")
"""Imported by InvokeAI, never called to identify a file."""


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in STAND_INS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__, module.__name__ = spec, [], spec.name
        return module

    def exec_module(self, module):
        pass


def map_files_shared() -> None:
    """safetensors maps files privately and writably, which counts against a machine's memory: one with less than a
    file's size refuses, and InvokeAI then calls the file unknown. Nothing is written here, so a shared map does."""
    mapped = torch.UntypedStorage.from_file
    torch.UntypedStorage.from_file = staticmethod(lambda name, shared=False, nbytes=0: mapped(name, True, nbytes))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    map_files_shared()
    # These ask whether what is stood in for is there: before they could be told so.
    from diffusers import AutoencoderKL  # noqa: F401
    from transformers import CLIPTextModel  # noqa: F401

    sys.meta_path.insert(0, StandIns())
    from invokeai.backend.model_manager.configs.base import Config_Base
    from invokeai.backend.model_manager.configs.factory import ModelConfigFactory

    logging.disable(logging.CRITICAL)

    def tell(answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    fields = [config.model_fields for config in Config_Base.CONFIG_CLASSES]
    tell([[str(each[name].default.value) for name in ("type", "base", "format")] for each in fields])
    for line in sys.stdin:
        start = time.process_time()
        result = ModelConfigFactory.from_model_on_disk(Path(json.loads(line)), hash_algo="random")
        spent = time.process_time() - start
        refused = {str(each) for each in result.details.values() if "unable to mmap" in str(each)}
        said = {name: getattr(result.config, name, None) for name in ("type", "base", "prediction_type")}
        said = {name: getattr(value, "value", value) for name, value in said.items()}
        tell({**said, "seconds": spent, "refused": sorted(refused)})
        del result
        gc.collect()  # not in the midst of the next


if __name__ == "__main__":
    main()
