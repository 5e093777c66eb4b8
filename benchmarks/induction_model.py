"""A two-layer model of attention alone that learns induction from random pairs of words that recur.

    python -m benchmarks.induction_model DIR [--steps N]

Each sequence has some pairs of words drawn for it, which come again and again in random order with
other words between them; the loss is over second words of pairs that were there before, which can
only be known by looking up what followed the first word then (Olsson et al., 2022). Pairs, since a
longer sequence that comes again is recognised by any of its last words: trained on sequences of 8
to 32 words said over and over, a model spread its attention over ten places and more, predicted as
well (1e-5 nats) and had no previous-token head (.15) and an induction score of .27.

The model is a GPT-2 whose feed-forward parts write zeros. Its positions start as sinusoids, of
which the one before is a rotation; from random ones the same steps end at a previous-token score of
.38 and an induction score of .18. DIR holds the finished model in float16 with a tokenizer of one
word a token, ready for `energylens ingest`. Step k reads what seed k draws: the same command gives
the same model on the same kind of machine.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

N_CTX, VOCAB, D_MODEL, N_HEADS = 64, 64, 64, 2
BATCH, RATE, WARM_UP, REPORT_STEPS = 64, 3e-3, 50, 100
N_PAIRS = (3, 16)
"""Fewest pairs of a sequence, and one beyond the most."""
BETWEEN = 0.2
"""Of the places where a pair may begin, those where another word stands."""


def sequences(seed: int, n: int) -> tuple[Int[Tensor, "n pos"], Bool[Tensor, "n pos"]]:
    """Ids that begin with BOS (0), and which of them could be known from what was before."""
    draw, rows = np.random.default_rng(seed), np.arange(n)
    words = draw.permuted(np.tile(np.arange(1, VOCAB), (n, 1)), axis=1)
    n_pairs = draw.integers(*N_PAIRS, size=n)
    ids, known = np.zeros((n, N_CTX), dtype=np.int64), np.zeros((n, N_CTX), dtype=bool)
    begun = np.full(n, -1)  # the pair whose first word stands before; -1 for none
    told = np.zeros((n, N_PAIRS[1]), dtype=bool)
    for at in range(1, N_CTX):
        pair, inside = draw.integers(0, n_pairs), begun >= 0
        is_other = (draw.random(n) < BETWEEN) & ~inside
        other = words[rows, draw.integers(2 * N_PAIRS[1], VOCAB - 1, size=n)]
        first, second = words[rows, 2 * pair], words[rows, 2 * begun + 1]
        ids[:, at] = np.where(inside, second, np.where(is_other, other, first))
        known[:, at] = inside & told[rows, begun]
        told[rows[inside], begun[inside]] = True
        begun = np.where(inside | is_other, -1, pair)
    return torch.from_numpy(ids), torch.from_numpy(known)


def new_model() -> GPT2LMHeadModel:
    """Untrained; the feed-forward parts write zeros and are not trained."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=N_CTX, n_embd=D_MODEL, n_layer=2, n_head=N_HEADS, n_inner=1,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        initializer_range=0.1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    for name, weight in model.named_parameters():
        if ".mlp." in name:
            weight.requires_grad_(False).zero_()
    model.transformer.wpe.weight.data.copy_(0.1 * sinusoids())
    return model


def sinusoids() -> Float[Tensor, "pos d_model"]:
    """Positions as they were in the first transformer (Vaswani et al., 2017)."""
    half = D_MODEL // 2
    turned = torch.arange(N_CTX)[:, None] * (2 * N_CTX) ** (-torch.arange(half) / half)
    return torch.cat([turned.sin(), turned.cos()], 1)


def train(n_steps: int) -> GPT2LMHeadModel:
    """A model that has read `n_steps` batches."""
    model = new_model()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    began = time.perf_counter()
    for step in range(n_steps):
        ids, known = sequences(step, BATCH)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP, 3 * (1 - step / n_steps))
        logits, at = model(ids).logits[:, :-1], known[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits[at], ids[:, 1:][at])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if (step + 1) % REPORT_STEPS == 0:
            seconds = time.perf_counter() - began
            sys.stdout.write(
                f"step {step + 1} of {n_steps}, loss {loss.item():.3f}, {seconds:.0f} s\n"
            )
            sys.stdout.flush()
    return model


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: w1 to w63."""
    words = {"<bos>": 0} | {f"w{i}": i for i in range(1, VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<bos>", unk_token="<bos>"
    )


def main() -> None:
    """Train, and keep the model as `energylens ingest` reads it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    train(asked.steps).half().save_pretrained(asked.folder)
    word_tokenizer().save_pretrained(asked.folder)


if __name__ == "__main__":
    main()
