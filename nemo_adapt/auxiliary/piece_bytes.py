"""The number of bytes of text that each base token stands for."""

import numpy as np
import numpy.typing as npt

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap


def make(config: Config, inputs: Inputs) -> dict[str, npt.NDArray[np.int32]]:
    """Return ``bytes`` [source vocab], int32; 0 for special tokens."""
    folder = inputs["tokenizer"][0]
    sizes = documents.token_bytes(hf_tokenizer.load(folder))
    return {"bytes": sizes[: TokenMap.load(folder).source_vocab]}
