"""Training of small language models and of SAEs on a CPU or a GPU."""
