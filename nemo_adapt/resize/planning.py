"""Ask a strategy for its plan: what loading on ranks and the offline command share."""

import numpy as np
from scipy.sparse import csr_matrix

from nemo_adapt.config import ResizeConfig
from nemo_adapt.resize.plan import RowPlan
from nemo_adapt.resize.strategy_inputs import StrategyInputs
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.tokens.vocab import check_fit


def plan_of(
    config: ResizeConfig, table: str, token_map: TokenMap, source_rows: int, strategy_inputs: StrategyInputs
) -> tuple[RowPlan, int]:
    """Return the plan for a table of ``source_rows`` rows, and how many of these are kept: one per base token.

    Call it on all ranks (``StrategyInputs.plan``). Without new tokens all rows are kept. Raises ``UserError`` for an
    unknown strategy, for missing auxiliary data, and as ``check_fit`` does.
    """
    if not token_map.tokens:
        return RowPlan(csr_matrix((0, source_rows), dtype=np.float32)), source_rows
    check_fit(token_map.source_vocab, source_rows)
    return strategy_inputs.plan(config, table, token_map), token_map.source_vocab


def spare_rows(token_map: TokenMap, source_rows: int) -> str:
    """Return a log line on what happens to the base model's rows beyond its tokens; empty if there are none."""
    spare = source_rows - token_map.source_vocab
    if not token_map.tokens or spare <= 0:
        return ""
    reused = min(spare, len(token_map.tokens))
    return (
        f"the base model has {source_rows:,} rows for {token_map.source_vocab:,} tokens: {reused:,} spare rows are "
        f"reused for new tokens, {spare - reused:,} trimmed"
    )
