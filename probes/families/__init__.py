"""Every family, one file each. Adding one: its file of SIGNATURES, its line in FAMILIES, its fixture."""

from __future__ import annotations

from probes.families import flux1, others, sd1, sd2, sd3, sdxl
from probes.signature import Signature

FAMILIES = (sd1, sd2, sdxl, sd3, flux1, others)
SIGNATURES: tuple[Signature, ...] = tuple(signature for family in FAMILIES for signature in family.SIGNATURES)
