"""Megatron distributed checkpoints (``torch_dist``), written and read chunk by chunk without building a model.

The format is PyTorch's distributed checkpoint (DCP) plus two small files, ``common.pt`` and ``metadata.json``
(megatron/core/dist_checkpointing/strategies/torch.py).
"""
