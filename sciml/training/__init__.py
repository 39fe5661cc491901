"""One training loop for potentials and PDE surrogates: losses, optimizers, checkpoints."""
