"""Random auxiliary data of every kind, in folders as the stage ``auxiliary`` writes them."""

from pathlib import Path

import numpy as np

from nemo_adapt.tokens.token_map import TokenMap


def make_auxiliary(place: Path, token_map: TokenMap, dims: int = 6, seed: int = 0) -> dict[str, Path]:
    """Write auxiliary data into ``place``; return kind -> folder. Some tokens have neither a vector nor overlaps."""
    random, source, new = np.random.default_rng(seed), token_map.source_vocab, len(token_map.tokens)
    vectors = random.standard_normal((source + new, dims)).astype(np.float32)
    vectors[random.random(source + new) < 0.2] = 0.0
    met = random.integers(0, 5, (new, source)) * (random.random(new) < 0.7)[:, None]
    pairs = np.nonzero(met)
    counts = met[pairs]
    kinds = {
        "piece_bytes": {"bytes": random.integers(0, 6, source).astype(np.int32)},
        "vectors": {"vectors": vectors},
        "bilingual": {"source": vectors[:source], "target": vectors[source:]},
        "overlaps": {"new": pairs[0], "piece": pairs[1], "count": counts, "bytes": counts * (1 + pairs[1])},
    }
    for kind, arrays in kinds.items():
        (place / kind).mkdir(parents=True)
        np.savez(place / kind / f"{kind}.npz", **arrays)
    return {kind: place / kind for kind in kinds}
