"""Which number format is faster here: a property of the processor, not of a stopwatch, so that a
training that goes on computes as it began."""

import torch

from energylens.choices import one_of

CHOICES = ("auto", "float32", "bfloat16")
_FAST_IN_BFLOAT16 = ("amx_bf16", "amx_tile", "avx512_bf16")


def number_format(asked: str) -> str:
    """float32 or bfloat16; `auto` takes bfloat16 where the processor multiplies matrices of it.

    Raises:
        UsageError: something else was asked.
    """
    one_of("--dtype takes", asked, CHOICES)
    if asked != "auto":
        return asked
    can = torch.cpu.get_capabilities()
    return "bfloat16" if any(can.get(name) for name in _FAST_IN_BFLOAT16) else "float32"
