"""Generation with diffusers, in this process, on tensors that it does not own.

The pipeline's modules are made on the meta device and bound to a bundle's tensors: there is one copy of the base. A LoRA set is an
overlay of patched tensors; putting it on and taking it off exchanges pointers, so that the base comes back bit for bit.
"""

import transformers

# Before diffusers, whose import makes transformers warn that torchvision is missing, which nothing here needs.
transformers.logging.set_verbosity_error()

from registry.backends.diffusers.backend import DiffusersBackend  # noqa: E402

__all__ = ["DiffusersBackend"]
