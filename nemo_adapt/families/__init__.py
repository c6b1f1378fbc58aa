"""The model families. A new one is one file beside this one and one line in ``FAMILIES``."""

from nemo_adapt.errors import UserError
from nemo_adapt.families.apertus import APERTUS
from nemo_adapt.families.arcee import ARCEE
from nemo_adapt.families.bloom import BLOOM
from nemo_adapt.families.cohere import COHERE, COHERE2
from nemo_adapt.families.ernie import ERNIE4_5
from nemo_adapt.families.exaone import EXAONE4
from nemo_adapt.families.falcon import FALCON
from nemo_adapt.families.family import Family, HfConfig
from nemo_adapt.families.gemma import GEMMA, GEMMA2, GEMMA3
from nemo_adapt.families.glm import GLM, GLM4
from nemo_adapt.families.gpt2 import GPT2
from nemo_adapt.families.gpt_neox import GPT_NEOX
from nemo_adapt.families.granite import GRANITE, GRANITE4
from nemo_adapt.families.hunyuan import HUNYUAN
from nemo_adapt.families.jais import JAIS2
from nemo_adapt.families.llama import LLAMA
from nemo_adapt.families.mistral import MINISTRAL, MINISTRAL3, MISTRAL
from nemo_adapt.families.nemotron import NEMOTRON
from nemo_adapt.families.olmo import OLMO2, OLMO3
from nemo_adapt.families.phi import PHI
from nemo_adapt.families.phi3 import PHI3
from nemo_adapt.families.qwen import QWEN2, QWEN3
from nemo_adapt.families.seed_oss import SEED_OSS
from nemo_adapt.families.smollm3 import SMOLLM3
from nemo_adapt.families.starcoder2 import STARCODER2
from nemo_adapt.families.types import architectures
from nemo_adapt.families.xglm import XGLM

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    MISTRAL,
    MINISTRAL,
    MINISTRAL3,
    QWEN2,
    QWEN3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    PHI,
    PHI3,
    OLMO2,
    OLMO3,
    EXAONE4,
    SMOLLM3,
    SEED_OSS,
    GLM,
    GLM4,
    HUNYUAN,
    ERNIE4_5,
    GRANITE,
    GRANITE4,
    COHERE,
    COHERE2,
    NEMOTRON,
    ARCEE,
    JAIS2,
    STARCODER2,
    APERTUS,
    GPT2,
    GPT_NEOX,
    FALCON,
    BLOOM,
    XGLM,
)
WITH_IMAGES = ("dtype", "torch_dtype", "eos_token_id", "quantization_config")
"""Settings that a model which reads images may have beside its ``text_config``."""


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

    Whether its tables are tied says the whole model's setting, where it is given (as in transformers 5). ``UserError``
    if a field has a wrong type, and for a language model of another family.
    """
    names = set(architectures(config))
    known = {family.name: family for family in FAMILIES if names & set(family.inside)}
    if not known:
        return config
    text = config.get("text_config") or {}
    if not isinstance(text, dict):
        raise UserError(f"config.json: text_config={text!r} is not an object: download it again")
    kind = text.get("model_type", next(iter(known)))
    if kind not in known:
        raise UserError(
            f"config.json: text_config has model_type={kind!r}, which is not supported inside {', '.join(names)} "
            f"(supported: {', '.join(known)})"
        )
    shared = {key: config[key] for key in WITH_IMAGES if key in config}
    tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    return {**shared, **text, **tied, "architectures": [known[kind].architectures[0]]}
