"""The ``train`` stage: continued pretraining on Megatron, from the converted checkpoint to the last one."""
