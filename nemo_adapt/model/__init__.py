"""The Megatron model: its layout over ranks, its layers, and how it is built from a family's table."""
