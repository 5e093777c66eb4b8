"""What of this machine decides how a model's sums are rounded."""

import re

import torch

from energylens.db.manifest import Machine

_BLAS = re.compile(r"BLAS_INFO=(\w+)")
_MKL = re.compile(r"Math Kernel Library Version ([\w.]+)")


def this_machine() -> Machine:
    """The machine this process computes on, as shards record it."""
    built = torch.__config__.show()
    blas, mkl = _BLAS.search(built), _MKL.search(built)
    name = blas[1] if blas else "unknown"
    return Machine(
        torch=torch.__version__,
        cpu=torch.backends.cpu.get_cpu_capability(),
        blas=f"{name} {mkl[1]}" if name == "mkl" and mkl else name,
        threads=torch.get_num_threads(),
    )
