"""The model families. A new one is one file beside this one and one line in ``FAMILIES``."""

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, HfConfig
from nemo_adapt.families.llama import LLAMA

FAMILIES: tuple[Family, ...] = (LLAMA,)


def names() -> list[str]:
    """Names of the families."""
    return [family.name for family in FAMILIES]


def of(config: HfConfig) -> Family:
    """The family of a config.json; ``UserError`` naming the supported architectures if there is none."""
    wanted = config.get("architectures") or []
    for family in FAMILIES:
        if set(wanted) & set(family.architectures):
            return family
    known = ", ".join(architecture for family in FAMILIES for architecture in family.architectures)
    raise UserError(f"config.json: architecture {', '.join(wanted) or 'missing'} is not supported; supported: {known}")
