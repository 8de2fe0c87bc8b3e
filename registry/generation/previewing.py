"""When a generation shows its picture in the making: each policy is made for one job, and asked after every step but the last."""

from __future__ import annotations

import time
from collections.abc import Callable

from registry.backends import Step

PREVIEW_SECONDS = 0.25
"""At most four previews a second: more than that nobody sees, and each is a PNG to encode beside the denoising."""

Wanted = Callable[[Step], bool]


def never(_: Step) -> bool:
    return False


def throttled(seconds: float = PREVIEW_SECONDS) -> Wanted:
    """After the first step, and then once in `seconds`."""
    shown = float("-inf")

    def wanted(_: Step) -> bool:
        nonlocal shown
        if (now := time.monotonic()) - shown < seconds:
            return False
        shown = now
        return True

    return wanted


def evenly(count: int) -> Wanted:
    """`count` times, spread evenly over the steps; fewer where there are not so many steps."""
    shown = 0

    def wanted(step: Step) -> bool:
        nonlocal shown
        if shown >= count or step.done * (count + 1) < step.total * (shown + 1):
            return False
        shown += 1
        return True

    return wanted
