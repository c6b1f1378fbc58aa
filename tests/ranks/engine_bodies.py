"""What ranks do in tests of Transformer Engine."""

from contextlib import closing

from helpers.folders import Folders
from megatron.core.extensions.transformer_engine import HAVE_TE
from ranks.model_bodies import load_chunks
from ranks.training_bodies import data, span

from nemo_adapt.config import Config
from nemo_adapt.phases import phases
from nemo_adapt.train import loop


def is_there(rank: int) -> bool:
    """Whether Megatron has found it."""
    return HAVE_TE


def used(rank: int, config: Config, folders: Folders, vocab: int) -> dict[str, str]:
    """Classes of which a layer consists, and where the optimizer comes from."""
    chunks = load_chunks(config, folders)
    decoder = chunks[0].decoder
    attention, mlp = decoder.layers[0].self_attention, decoder.layers[0].mlp
    parts = {
        "linear_qkv": attention.linear_qkv,
        "core_attention": attention.core_attention,
        "linear_fc2": mlp.linear_fc2,
        "final_layernorm": decoder.final_layernorm,
    }
    with closing(loop.run(chunks, phases(config), config.train, span(folders), data(config, vocab))) as steps:
        adam = next(steps).trainer.optimizer.chained_optimizers[0].optimizer
        return {**{name: type(part).__name__ for name, part in parts.items()}, "adam": type(adam).__module__}
