"""One training loop for all models: objectives, optimizer, running average, checkpoints, learning curve."""
