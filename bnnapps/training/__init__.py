"""Training on PyTorch Lightning: modules, stages, teachers, checkpoints."""
