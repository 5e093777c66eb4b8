# Two commands on a fresh machine with Python 3.11 or newer, pip and make:
#   make demo   sets up, ingests the bundled texts, and opens the terminal program
#   make test   sets up and runs the tests
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test soak nulls check lint types layers bench findings reproduce-routing smollm2 repair-smollm2 docs reference screens lock clean

demo: $(INSTALLED)
	$(BIN)/energylens demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Half the HOURS for faults at every place of every long command, half for hostile bytes. The same
# command again goes on where it stopped. atheris, which leads the bytes by the code they reach, is
# for Linux only and no dependency.
HOURS ?= 1
SOAK := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m

soak: $(INSTALLED)
	$(BIN)/python -m pip install --quiet "atheris>=3,<4"
	mkdir -p runs-local/soak
	$(SOAK) tests.faults.readers runs-local/soak/readers
	$(SOAK) tests.faults.drive runs-local/soak/faults all --by-chance 100 --seconds $$(($(HOURS) * 1800))
	$(SOAK) tests.hostile.fuzz runs-local/soak/fuzz --seconds $$(($(HOURS) * 1800))

# Every p, q and interval over simulated runs without a signal and with one; half an hour, resumable.
nulls: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.nulls.drive runs-local/nulls

check: lint types layers

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/pyright

layers: $(INSTALLED)
	$(BIN)/lint-imports --no-cache

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.queries
	$(BIN)/python -m benchmarks.coactivation
	$(BIN)/python -m benchmarks.screens
	$(BIN)/python -m benchmarks.estimate
	$(BIN)/python -m benchmarks.sae_speed
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.graphs

findings: $(INSTALLED)
	$(BIN)/python -m benchmarks.findings
	$(BIN)/python -m benchmarks.recomputation
	$(BIN)/python -m benchmarks.mesa
	$(BIN)/python -m benchmarks.controls benchmarks/results/controls builtin:llama --report
	$(BIN)/python -m benchmarks.architectures
	$(BIN)/python -m benchmarks.repair benchmarks/results/repair home --splits 2
	$(BIN)/python -m benchmarks.repair benchmarks/results/repair far --splits 2 --top 100 --no-tuned
	$(BIN)/python -m benchmarks.repair benchmarks/results/repair random --splits 2 --top 100 --no-tuned --report

# A short form of docs/findings/routing.md: one seed, on the standard library's own source.
reproduce-routing: $(INSTALLED)
	$(BIN)/python -m benchmarks.routing runs-local/routing-short --n-tokens 50000 --one-seed
	$(BIN)/python -m benchmarks.routing_report runs-local/routing-short runs-local/routing-short/report.md

# A real language model from one end to the other; some six hours on two cores, resumable. TRAIN and
# HELDOUT are directories of <category>.jsonl; TOKENS is the budget of each SAE.
TOKENS ?= 1200000
SMOLLM2 := runs-local/smollm2

smollm2: $(INSTALLED)
	$(BIN)/python -m benchmarks.smollm2 $(SMOLLM2) --train $(TRAIN) --heldout $(HELDOUT) --tokens $(TOKENS)
	$(BIN)/python -m benchmarks.smollm2_page $(SMOLLM2)
	$(BIN)/python -m benchmarks.exits benchmarks/results/exits-smollm2 $(SMOLLM2)/model.gguf $(HELDOUT)
	$(BIN)/python -m benchmarks.exit_choices benchmarks/results/exits-smollm2 $(SMOLLM2)/model.gguf $(HELDOUT)

# What energylens repair does to it: at home, on what it knows badly, and with random weights.
REPAIR := $(BIN)/python -m benchmarks.repair benchmarks/results/repair
REPAIRED := --sae blocks.14.hook_resid_post --trained-on $(TRAIN) --top 20,200 --splits 2 --texts 256

repair-smollm2: $(INSTALLED)
	$(REPAIR) "SmolLM2 at home" --store $(SMOLLM2)/smollm2-1.lens $(REPAIRED)
	$(REPAIR) "SmolLM2 on other languages" --store $(SMOLLM2)/smollm2-1.lens $(REPAIRED) --category non_english
	$(REPAIR) "SmolLM2 on addresses" --store $(SMOLLM2)/smollm2-1.lens $(REPAIRED) --category urls
	$(REPAIR) "SmolLM2's shape with random weights" --store $(SMOLLM2)/random.lens $(REPAIRED) --no-tuned --report

# The pages of docs/ as a site, in runs-local/site; a link to nowhere is an error.
docs:
	$(PYTHON) -m venv runs-local/docs-env
	runs-local/docs-env/bin/python -m pip install --quiet --requirement docs/requirements.txt
	runs-local/docs-env/bin/sphinx-build -W -q -b html docs runs-local/site

# The pages of docs/reference, from the code.
reference: $(INSTALLED)
	$(BIN)/python -m benchmarks.reference

screens: $(INSTALLED)
	$(BIN)/python -m benchmarks.pictures

lock: $(INSTALLED)
	echo "# Exact versions of everything: base, every extra and development. Made by: make lock" > requirements.lock
	$(BIN)/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/' >> requirements.lock

clean:
	rm -rf .venv demo.lens

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; give one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
