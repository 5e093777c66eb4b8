"""The science on torch: models, SAEs, read-out, energies, gradients, interventions. No storage."""
