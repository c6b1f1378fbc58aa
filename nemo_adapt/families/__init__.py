"""The model families. A new one is one file beside this one and one line in ``FAMILIES``."""

from nemo_adapt.errors import UserError
from nemo_adapt.families.bloom import BLOOM
from nemo_adapt.families.cohere import COHERE, COHERE2
from nemo_adapt.families.family import Family, HfConfig
from nemo_adapt.families.gemma import GEMMA, GEMMA2, GEMMA3
from nemo_adapt.families.gpt2 import GPT2
from nemo_adapt.families.gpt_neox import GPT_NEOX
from nemo_adapt.families.granite import GRANITE
from nemo_adapt.families.llama import LLAMA
from nemo_adapt.families.mistral import MISTRAL
from nemo_adapt.families.nemotron import NEMOTRON
from nemo_adapt.families.olmo import OLMO2, OLMO3
from nemo_adapt.families.phi import PHI
from nemo_adapt.families.phi3 import PHI3
from nemo_adapt.families.qwen import QWEN2, QWEN3
from nemo_adapt.families.smollm3 import SMOLLM3
from nemo_adapt.families.types import architectures
from nemo_adapt.families.xglm import XGLM

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    PHI,
    PHI3,
    OLMO2,
    OLMO3,
    SMOLLM3,
    GRANITE,
    COHERE,
    COHERE2,
    NEMOTRON,
    GPT2,
    GPT_NEOX,
    BLOOM,
    XGLM,
)


def names() -> list[str]:
    """Return the names of all families."""
    return [family.name for family in FAMILIES]


def of(config: HfConfig) -> Family:
    """Return the family of a config.json; ``UserError`` with the supported architectures if there is none, and for the
    ``model_type`` of another model, which is what transformers loads."""
    wanted = architectures(config)
    for family in FAMILIES:
        if set(wanted) & set(family.architectures):
            if (kind := config.get("model_type", family.name)) != family.name:
                raise UserError(
                    f"config.json: model_type={kind!r} does not belong to architecture {', '.join(wanted)} "
                    f"({family.name!r} does), and transformers goes by it: correct the one that is wrong"
                )
            return family
    known = ", ".join(name for family in FAMILIES for name in (*family.architectures, *family.inside))
    raise UserError(f"config.json: architecture {', '.join(wanted) or 'missing'} is not supported; supported: {known}")


def language_model(config: HfConfig) -> HfConfig:
    """Return the config.json of the language model in a model that also reads images, else ``config`` as it is.

    ``UserError`` if a field that says so has a wrong type.
    """
    names = set(architectures(config))
    family = next((family for family in FAMILIES if names & set(family.inside)), None)
    if not family:
        return config
    if not isinstance(config.get("text_config") or {}, dict):
        raise UserError(f"config.json: text_config={config['text_config']!r} is not an object: download it again")
    shared = {
        key: config[key] for key in ("dtype", "torch_dtype", "eos_token_id", "quantization_config") if key in config
    }
    return {**shared, **(config.get("text_config") or {}), "architectures": [family.architectures[0]]}
