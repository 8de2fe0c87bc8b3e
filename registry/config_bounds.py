"""How large the numbers of a pipeline's configuration may be: it is a stranger's, and modules and schedules are built by it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from registry.errors import UnusableFile

# The first pattern that is found in a key decides; each bound is many times the largest that was published.
_MOST: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), most)
    for pattern, most in (
        ("channels", 1 << 16),
        ("timesteps|steps_offset", 10_000),  # published: 1000; schedules have as many entries
        ("sample_size|patch_size", 1 << 14),
        ("layer|block|depth|heads", 1 << 10),  # as many modules are made
        ("", 1 << 20),  # vocabularies, widths, positions
    )
)
_LONGEST = 64  # entries: block_out_channels has one a level
_SCHEDULE = "trained_betas"  # the one list with an entry a timestep
# What is computed with: positive whole numbers, or lists of them.
_COUNTED = (
    "in_channels",
    "out_channels",
    "latent_channels",
    "block_out_channels",
    "sample_size",
    "num_train_timesteps",
)


def check_config(whose: str, config: Mapping[str, Any]) -> None:
    """Raises UnusableFile: a number is larger than any model has, or none where one is needed. `whose`: for people."""
    for key, value in config.items():
        most = next(most for pattern, most in _MOST if pattern.search(key))
        if isinstance(value, list | tuple) and len(value) > _LONGEST and key != _SCHEDULE:
            raise UnusableFile(
                f"The configuration of {whose} has {len(value)} entries of {key}; at most {_LONGEST} are taken."
            )
        for number in _leaves(value):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if isinstance(number, int | float) and not abs(number) <= most:
                raise UnusableFile(
                    f"The configuration of {whose} has a {key} of {number:.6g}; at most {most} is taken."
                )
            if key in _COUNTED and number is not None and not (whole and number > 0):
                raise UnusableFile(
                    f"The configuration of {whose} has a {key} of {number!r}, which is no number of anything."
                )


def _leaves(value: Any) -> Iterator[Any]:
    """`value`, or what stands in it, however deep: JSON has no cycles, and its reader bounds the depth."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
