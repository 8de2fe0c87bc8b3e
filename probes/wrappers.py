"""Names as the network has them, without what training frameworks wrap around its modules.

torch.compile saves `_orig_mod.img_in.weight`, of a compiled block `blocks.0._orig_mod.attn.weight`, which kohya's trainers flatten to
`lora_unet__orig_mod_blocks_0_attn`; data-parallel training saves all of a network under `module.`; FSDP and activation checkpointing have
words of their own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from probes.header import Header
from probes.names import Names

_AROUND = "module."
_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_WRAPPERS = re.compile(rf"^(?:module\.)+|(?:{'|'.join(_INSIDE)})[._]")


def plain_name(name: str) -> str:
    return _WRAPPERS.sub("", name)


def unwrapped(header: Header, names: Names) -> Header:
    """The header with plain names; the same header where none is wrapped, or where two of its names would become one."""
    if not names.all_begin(_AROUND) and not any(map(names.mention, _INSIDE)):
        return header
    tensors = {plain_name(name): spec for name, spec in header.tensors.items()}
    return replace(header, tensors=tensors) if len(tensors) == len(header.tensors) else header
