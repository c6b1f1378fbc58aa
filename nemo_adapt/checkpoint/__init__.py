"""Megatron distributed checkpoints (``torch_dist``): written and read a piece at a time, no model built.

The format is PyTorch's distributed checkpoint (DCP) plus two small files, ``common.pt`` and ``metadata.json``
(megatron/core/dist_checkpointing/strategies/torch.py).
"""
