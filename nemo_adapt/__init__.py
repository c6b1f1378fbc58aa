"""nemo_adapt: turn an existing language model into a good model of another language, on Megatron."""

__version__ = "0.1.0"
