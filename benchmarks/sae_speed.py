"""Training one SAE: `energylens train sae` beside sae-lens' own runner.

A GPT-2-small shape with random weights (12 layers, d_model 768) reads the bundled texts, and an SAE
of 24,576 features is trained behind its sixth block: the same architecture, batch, context, number
of tokens, texts and number format, each program in a process of its own, in turns. The rate is that
of reading a token and training on it, without the first chunk and the first step; what lies between
two steps, checkpoints among it, counts. Ratios count, seconds depend on the machine. Writes
`benchmarks/results/sae_speed.json`.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import psutil
import torch
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner, LoggingConfig
from sae_lens.registry import get_sae_training_class
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from energylens.ingest.texts import iter_texts
from energylens.training.corpus import pack, train_tokenizer

TEXTS = "builtin:categories"
HOOK = "blocks.6.hook_resid_pre"
D_SAE, N_CTX, BATCH, STEPS = 24_576, 128, 2048, 5
N_TOKENS = STEPS * BATCH
WINDOWS = 8
"""Windows of text in one pass of the model."""
LEARNING_RATE = 1e-3
K = 32
PAIRS = 3
ARCHITECTURES = ("standard", "topk")
Program = Literal["energylens", "sae-lens"]
PROGRAMS: tuple[Program, ...] = ("energylens", "sae-lens")


@dataclass(frozen=True)
class Said:
    """A line a program writes, and when it came."""

    at: float
    cpu: float
    """Seconds of processor time the program had used by then."""
    what: str
    """"step", or the phase of reading."""
    done: int


@dataclass(frozen=True)
class Run:
    """One training."""

    program: str
    architecture: str
    pair: int
    tokens_per_second: float
    tokens_per_cpu_second: float
    """The same by processor time, which does not count what others take of a shared machine."""
    read_share: float
    """Of that time, what reading takes."""
    whole_s: float
    """The whole process: imports, loading, reading, training, storing."""
    cpu_s: float
    peak_gb: float
    load: float
    """Of the machine in the minute before, this benchmark's own among it."""


def make_inputs(folder: Path) -> None:
    """The model and its tokenizer."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    texts = (text.text for text in iter_texts(TEXTS))
    train_tokenizer(texts, 4096).save_pretrained(folder)


def train_with_sae_lens(architecture: str, folder: Path) -> None:
    """sae-lens' own runner, which says what it reads and each step it takes."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = pack(tokenizer, (text.text for text in iter_texts(TEXTS)))
    windows = ids[: len(ids) // N_CTX * N_CTX].reshape(-1, N_CTX)
    config = get_sae_training_class(architecture)[1]
    own: dict[str, Any] = {"k": K} if architecture == "topk" else {}
    runner = _Runner(
        LanguageModelSAERunnerConfig(
            sae=config(
                d_in=768, d_sae=D_SAE, normalize_activations="expected_average_only_in", **own
            ),
            hook_name=HOOK,
            context_size=N_CTX,
            streaming=False,
            training_tokens=N_TOKENS,
            train_batch_size_tokens=BATCH,
            store_batch_size_prompts=WINDOWS,
            n_batches_in_buffer=N_TOKENS // N_CTX,
            n_batches_for_norm_estimate=1,
            exclude_special_tokens=True,
            lr=LEARNING_RATE,
            logger=LoggingConfig(log_to_wandb=False),
            checkpoint_path=None,
            output_path=str(folder / "out" / "sae-lens"),
            verbose=False,
        ),
        override_dataset=Dataset.from_dict({"input_ids": windows.astype(np.int64).tolist()}),
        override_model=_hooked(folder, tokenizer),
    )
    runner.run()


class _Runner(LanguageModelSAETrainingRunner):
    def run_trainer_with_interruption_handling(self, trainer: Any) -> Any:
        read, step, store = 0, trainer.step, self.activations_store
        pass_once = store.get_filtered_llm_batch

        def reading(raise_on_epoch_end: bool = False) -> torch.Tensor:
            nonlocal read
            if not read:
                _say(phase="reading", done=0)
            found = pass_once(raise_on_epoch_end)
            read += len(found)
            _say(phase="reading", done=read)
            return found

        def stepping(batch: torch.Tensor) -> Any:
            found = step(batch)
            _say(step=trainer.n_training_steps + 1)
            return found

        store.get_filtered_llm_batch, trainer.step = reading, stepping
        return super().run_trainer_with_interruption_handling(trainer)


def _say(**what: Any) -> None:
    sys.stderr.write(json.dumps(what) + "\n")
    sys.stderr.flush()


def _hooked(folder: Path, tokenizer: Any) -> HookedTransformer:
    """The model as sae-lens runs it where nothing else is asked."""
    hf = GPT2LMHeadModel.from_pretrained(folder)
    config = HookedTransformerConfig(
        n_layers=12, d_model=768, n_ctx=1024, d_head=64, n_heads=12, d_mlp=3072, d_vocab=50_257,
        act_fn="gelu_new", normalization_type="LN", eps=1e-5,
        original_architecture="GPT2LMHeadModel",
    )  # fmt: skip
    model = HookedTransformer(config, tokenizer)
    model.load_and_process_state_dict(
        convert_gpt2_weights(hf, config),
        fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False,
    )  # fmt: skip
    return model


def command(program: Program, architecture: str, folder: Path, out: Path) -> list[str]:
    """What starts one training."""
    if program == "sae-lens":
        return [
            sys.executable,
            "-m",
            "benchmarks.sae_speed",
            "--sae-lens",
            architecture,
            str(folder),
        ]
    own = ["--k", str(K)] if architecture == "topk" else []
    return [
        sys.executable, "-m", "energylens", "train", "sae", str(out), "--model", str(folder),
        "--texts", TEXTS, "--hook", HOOK, "--arch", architecture, "--d-sae", str(D_SAE),
        "--batch", str(BATCH), "--n-tokens", str(N_TOKENS), "--n-ctx", str(N_CTX),
        "--lr", str(LEARNING_RATE), "--dtype", "float32", "--every", "0", "--json", *own,
    ]  # fmt: skip


def run(program: Program, architecture: str, pair: int, folder: Path) -> Run:
    """One training in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        began, load = time.monotonic(), os.getloadavg()[0]
        process = subprocess.Popen(
            command(program, architecture, folder, Path(out) / "saes"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )  # fmt: skip
        assert process.stderr is not None, "it is a pipe"
        lines = list(_heard(process.stderr, psutil.Process(process.pid)))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        whole = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{program} ended with {process.returncode}")
    read_s, step_s = seconds_a_token(lines, lambda said: said.at)
    read_cpu, step_cpu = seconds_a_token(lines, lambda said: said.cpu)
    scale = 1 if sys.platform == "darwin" else 1024
    return Run(
        program, architecture, pair, 1 / (read_s + step_s), 1 / (read_cpu + step_cpu),
        read_cpu / (read_cpu + step_cpu), whole, used.ru_utime + used.ru_stime,
        used.ru_maxrss * scale / 1e9, load,
    )  # fmt: skip


def _heard(lines: Iterable[str], process: psutil.Process) -> Iterator[Said]:
    cpu = 0.0
    for line in lines:
        at = time.monotonic()
        with contextlib.suppress(psutil.Error):  # the last line may come after the end
            used = process.cpu_times()
            cpu = used.user + used.system
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a warning, a progress bar
        if "step" in said:
            yield Said(at, cpu, "step", said["step"])
        elif said.get("unit", "tokens") == "tokens" and "phase" in said:
            yield Said(at, cpu, said["phase"], said["done"])


def seconds_a_token(lines: list[Said], clock: Callable[[Said], float]) -> tuple[float, float]:
    """Of reading, and of all else; the first chunk and the first step left out."""
    reading = stepping = 0.0
    read = steps = 0
    for before, now in itertools.pairwise(lines):
        gap = clock(now) - clock(before)
        if now.what == before.what != "step":
            if before.done:
                reading, read = reading + gap, read + now.done - before.done
        elif now.what != "step" or now.done > 1:
            stepping, steps = stepping + gap, steps + (now.what == "step")
    return reading / read, stepping / (steps * BATCH)


def summary(runs: list[Run], architecture: str) -> dict[str, Any]:
    """Both programs of one architecture, and their ratios, pair by pair."""
    by_program = {
        program: [r for r in runs if (r.program, r.architecture) == (program, architecture)]
        for program in PROGRAMS
    }
    pairs = list(zip(by_program["energylens"], by_program["sae-lens"], strict=True))
    return {
        "architecture": architecture,
        **{
            program: {
                "tokens_per_second": median(r.tokens_per_second for r in own),
                "tokens_per_cpu_second": median(r.tokens_per_cpu_second for r in own),
                "whole_s": median(r.whole_s for r in own),
                "cpu_s": median(r.cpu_s for r in own),
                "peak_gb": max(r.peak_gb for r in own),
            }
            for program, own in by_program.items()
        },
        "ratio": _spread([a.tokens_per_second / b.tokens_per_second for a, b in pairs]),
        "cpu_ratio": _spread([a.tokens_per_cpu_second / b.tokens_per_cpu_second for a, b in pairs]),
    }


def _spread(ratios: list[float]) -> dict[str, float]:
    return {"median": median(ratios), "low": min(ratios), "high": max(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sae-lens", nargs=2, metavar=("ARCHITECTURE", "FOLDER"))
    asked = parser.parse_args()
    if asked.sae_lens:
        train_with_sae_lens(asked.sae_lens[0], Path(asked.sae_lens[1]))
        return
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        make_inputs(Path(name))
        for pair in range(PAIRS):
            for architecture in ARCHITECTURES:
                for program in PROGRAMS if pair % 2 == 0 else PROGRAMS[::-1]:
                    runs.append(run(program, architecture, pair, Path(name)))
                    print(json.dumps(asdict(runs[-1])), flush=True)  # noqa: T201
    found = [summary(runs, architecture) for architecture in ARCHITECTURES]
    out = Path(__file__).parent / "results/sae_speed.json"
    out.write_text(
        json.dumps({"found": found, "runs": [asdict(one) for one in runs]}, indent=1) + "\n"
    )
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
