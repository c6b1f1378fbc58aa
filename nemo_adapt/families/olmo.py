"""OLMo 2 and 3: norms after attention and MLP instead of before them, and one over all queries and one over all keys.

In OLMo 3 three of four layers have a window, and the others may have scaled rotary positions.
"""

from nemo_adapt.errors import UserError
from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import AFTER, WHOLE, Entry, Family, HfConfig, Rotary, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None)}
EPSILON = 1e-5
"""What ``rms_norm_eps`` is if config.json leaves it out (transformers' Olmo2Config and Olmo3Config)."""
THETA = 500_000.0
"""The same for OLMo 3's ``rope_theta``."""


def shape_2(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an OLMo 2 config.json."""
    require(config, "OLMo-2", COVERED)
    epsilon = config.get("rms_norm_eps", EPSILON)
    return settings.llama_like(config, "OLMo-2", norm_epsilon=epsilon, norms=AFTER, qk_norm=WHOLE)


def shape_3(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an OLMo 3 config.json; every fourth layer has no window, and other rotary positions."""
    require(config, "OLMo-3", COVERED)
    everywhere, local = _rotaries(config)
    sliding = [(layer + 1) % 4 != 0 for layer in range(config["num_hidden_layers"])]
    return settings.llama_like(
        config,
        "OLMo-3",
        norm_epsilon=config.get("rms_norm_eps", EPSILON),
        norms=AFTER,
        qk_norm=WHOLE,
        rotary=everywhere,
        rotaries=tuple(local if slides else everywhere for slides in settings.slides(config, sliding)),
        windows=settings.windows(config, sliding),
    )


def _rotaries(config: HfConfig) -> tuple[Rotary, Rotary]:
    """Return the rotary positions of layers that see all positions, and of those with a window.

    ``UserError`` where transformers 4, which has one base and scales only the former, and 5 compute different ones.
    """
    kinds = config.get("rope_parameters") or {}  # by kind of layer (transformers 5)
    scaled = settings.of_full_layers(config, "OLMo-3")
    of_all = {"rope_theta": THETA, **config, "rope_parameters": scaled, **settings.OF_ONE_KIND}
    local = {"rope_theta": THETA, "rope_parameters": kinds.get(settings.SLIDING)}
    everywhere, sliding = settings.rotary(of_all, "OLMo-3"), settings.rotary(local, "OLMo-3")
    if sliding != Rotary(everywhere.base):
        raise UserError(
            f"config.json: rotary positions of OLMo-3's {settings.SLIDING} other than unscaled ones with the "
            f"rope_theta of its {settings.FULL} ({everywhere.base:g}) are not covered: transformers 4 does not have "
            f"them (without rope_parameters, transformers 5 takes {THETA:g} there)"
        )
    return everywhere, sliding


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with these norms."""
    return [*entries.llama_like(shape, entries.NORMS_AFTER), *entries.qk_norms(shape.query_rows, shape.kv_rows)]


OLMO2 = Family("olmo2", ("Olmo2ForCausalLM",), shape_2, table)
OLMO3 = Family("olmo3", ("Olmo3ForCausalLM",), shape_3, table)
