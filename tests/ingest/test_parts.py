"""Which part of a run's shards is a process's, as it is told or its scheduler's variables say."""

from itertools import product

import pytest

from energylens.errors import UsageError
from energylens.ingest.parts import Part


@pytest.mark.parametrize("text", ["1/0", "0/3", "4/3", "x", "1", "-1/2", "¹/2", "", "Auto", "ANY"])
def test_parts_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--shard takes I/N"):
        Part.parse(text)


def test_parts_that_can_be() -> None:
    assert Part.parse("1/1") == Part()
    assert Part.parse("3/8") == Part(2, 8) and str(Part(2, 8)) == "3/8"
    assert Part.parse("any") is None
    assert list(Part(2, 3).of(8)) == [2, 5]


def array(task: int, low: int, high: int, count: int) -> dict[str, str]:
    """What Slurm sets for a task of an array."""
    numbers = {"ID": task, "MIN": low, "MAX": high, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}


@pytest.mark.parametrize("tasks", [range(8), range(1, 9), range(3, 20, 4), range(5, 6)])
def test_the_tasks_of_a_slurm_array_share_all_parts(tasks: range) -> None:
    parts = [
        Part.parse("auto", array(task, tasks[0], tasks[-1], len(tasks)) | {"SLURM_PROCID": "0"})
        for task in tasks
    ]
    assert parts == [Part(number, len(tasks)) for number in range(len(tasks))]


def test_the_nodes_of_skypilot_share_all_parts() -> None:
    nodes = [{"SKYPILOT_NODE_RANK": str(i), "SKYPILOT_NUM_NODES": "3"} for i in range(3)]
    jobs = [{"SKYPILOT_JOB_RANK": str(i), "SKYPILOT_NUM_JOBS": "2"} for i in range(2)]
    assert [Part.parse("auto", node) for node in nodes] == [Part(i, 3) for i in range(3)]
    assert [Part.parse("auto", job) for job in jobs] == [Part(i, 2) for i in range(2)]
    both = [Part.parse("auto", job | node) for job, node in product(jobs, nodes)]
    assert both == [Part(i, 6) for i in range(6)]
    alone = {"SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_NODES": "1"}
    assert [Part.parse("auto", job | alone) for job in jobs] == [Part(0, 2), Part(1, 2)]


def test_the_pods_of_an_indexed_job_share_all_parts() -> None:
    pods = [{"JOB_COMPLETION_INDEX": str(i), "JOB_COMPLETIONS": "4"} for i in range(4)]
    assert [Part.parse("auto", pod) for pod in pods] == [Part(i, 4) for i in range(4)]


NODE = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "4"}
POD = {"JOB_COMPLETION_INDEX": "1", "JOB_COMPLETIONS": "4"}


def test_schedulers_that_agree_are_no_contradiction() -> None:
    assert Part.parse("auto", NODE | POD | array(1, 0, 3, 4)) == Part(1, 4)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "finds no Slurm array .*, SkyPilot job .* or indexed job of Kubernetes"),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, "finds no Slurm array"),
        (NODE | array(2, 0, 3, 4), "cannot choose: Slurm says part 3/4 and SkyPilot says part 2/4"),
        (NODE | POD | {"JOB_COMPLETIONS": "5"}, "SkyPilot says .* 2/4 and Kubernetes .* 2/5"),
        ({"JOB_COMPLETION_INDEX": "1"}, "env JOB_COMPLETIONS the job's completions"),
        (POD | {"JOB_COMPLETION_INDEX": "4"}, "JOB_COMPLETION_INDEX=4 is not one of 4"),
        (POD | {"JOB_COMPLETIONS": "many"}, "whole number in JOB_COMPLETIONS, which is 'many'"),
        (POD | {"JOB_COMPLETIONS": ""}, "whole number in JOB_COMPLETIONS, which is ''"),
        (NODE | {"SKYPILOT_NODE_RANK": "-1"}, "whole number in SKYPILOT_NODE_RANK"),
        ({"SKYPILOT_NODE_RANK": "0"}, "whole number in SKYPILOT_NUM_NODES"),
        (array(5, 1, 7, 3), "not evenly spaced from 1 to 7; give --array=0-2"),
        (array(2, 1, 9, 3), "not evenly spaced"),
        (array(9, 0, 3, 4), "SLURM_ARRAY_TASK_ID=9 is not one of 4"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "whole number in SLURM_ARRAY_TASK_MIN"),
    ],
)
def test_what_schedulers_say_that_cannot_be(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Part.parse("auto", environment)
