"""Which shards of a run a process makes: a part of them, or whichever is free.

A scheduler that starts one command many times tells each which of how many it is. What is read of
that: Slurm's job arrays (SLURM_ARRAY_TASK_*, `man sbatch`), SkyPilot's jobs and nodes
(SKYPILOT_JOB_RANK of NUM_JOBS, SKYPILOT_NODE_RANK of NUM_NODES), and the indexed jobs of Kubernetes
(JOB_COMPLETION_INDEX), which does not tell how many there are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from energylens.errors import UsageError

COMPLETIONS = "JOB_COMPLETIONS"
"""The variable that a manifest of Kubernetes gives its job's `completions` in."""

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """The shards whose number is `index` modulo `count`."""

    index: int = 0
    count: int = 1

    @staticmethod
    def parse(text: str, environment: Environment | None = None) -> "Part | None":
        """From `I/N` as people count, 1/8 to 8/8; from `auto`, which asks the environment; None for
        `any`, whichever shards are free.

        Raises:
            UsageError: it is none of these, or the environment does not say, or says two things.
        """
        if text == "any":
            return None
        if text == "auto":
            return _scheduled(environment or {})
        first, slash, second = text.partition("/")
        if slash and _is_number(first) and _is_number(second) and 1 <= int(first) <= int(second):
            return Part(int(first) - 1, int(second))
        raise UsageError(
            f"--shard takes I/N with I from 1 to N, such as 3/8, or auto or any; not '{text}'"
        )

    def of(self, n_shards: int) -> range:
        """The numbers of its shards."""
        return range(self.index, n_shards, self.count)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


def _scheduled(environment: Environment) -> Part:
    found = {name: part for name, read in _SCHEDULERS.items() if (part := read(environment))}
    if not found:
        raise UsageError(
            "--shard auto finds no Slurm array (SLURM_ARRAY_TASK_ID), SkyPilot job "
            "(SKYPILOT_NODE_RANK) or indexed job of Kubernetes (JOB_COMPLETION_INDEX) in the "
            "environment: run it in one, or give --shard I/N, or --shard any"
        )
    if len(set(found.values())) > 1:
        said = " and ".join(f"{name} says part {part}" for name, part in found.items())
        raise UsageError(f"--shard auto cannot choose: {said}; give --shard I/N, or --shard any")
    return next(iter(found.values()))


def _slurm(environment: Environment) -> Part | None:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    names = ("ID", "MIN", "MAX", "COUNT")
    task, low, high, count = (_number(environment, f"SLURM_ARRAY_TASK_{n}") for n in names)
    step = 1 if count == 1 else (high - low) // max(1, count - 1)
    if step < 1 or low + step * (count - 1) != high or (task - low) % step:
        raise UsageError(
            f"--shard auto cannot tell which of {count} the task {task} of this Slurm array is: "
            f"its numbers are not evenly spaced from {low} to {high}; give --array=0-{count - 1}, "
            "or --shard any"
        )
    return _part((task - low) // step, count, "SLURM_ARRAY_TASK_ID", task)


def _skypilot(environment: Environment) -> Part | None:
    """Every node of every job of a pool; a node alone is one of one."""
    if not {"SKYPILOT_NODE_RANK", "SKYPILOT_JOB_RANK"} & set(environment):
        return None
    jobs = _rank(environment, "SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS")
    nodes = _rank(environment, "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES")
    return Part(jobs.index * nodes.count + nodes.index, jobs.count * nodes.count)


def _kubernetes(environment: Environment) -> Part | None:
    if "JOB_COMPLETION_INDEX" not in environment:
        return None
    if COMPLETIONS not in environment:
        raise UsageError(
            "Kubernetes tells an indexed job which it is (JOB_COMPLETION_INDEX) but not of how "
            f"many: give the container's env {COMPLETIONS} the job's completions, or --shard any"
        )
    return _rank(environment, "JOB_COMPLETION_INDEX", COMPLETIONS)


_SCHEDULERS: Mapping[str, Callable[[Environment], Part | None]] = {
    "Slurm": _slurm,
    "SkyPilot": _skypilot,
    "Kubernetes": _kubernetes,
}


def _rank(environment: Environment, rank: str, count: str) -> Part:
    """One of one where neither is given."""
    if not {rank, count} & set(environment):
        return Part()
    number = _number(environment, rank)
    return _part(number, _number(environment, count), rank, number)


def _part(index: int, count: int, variable: str, value: int) -> Part:
    if not 0 <= index < count:
        raise UsageError(
            f"--shard auto: {variable}={value} is not one of {count}; give --shard I/N"
        )
    return Part(index, count)


def _number(environment: Environment, name: str) -> int:
    value = environment.get(name, "")
    if not _is_number(value):
        raise UsageError(f"--shard auto needs a whole number in {name}, which is '{value}'")
    return int(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
