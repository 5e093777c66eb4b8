"""Energy-Lens: look inside a language model through features and energies."""

__version__ = "0.1.0"
