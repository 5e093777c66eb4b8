"""Training of SAEs: every architecture that sae-lens trains, several at once on one stream of
activations, from a model or from what a store keeps."""
