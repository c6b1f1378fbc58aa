"""NVIDIA's Megatron-Bridge: our models as its checkpoints, our runs as its recipes, without importing it."""
