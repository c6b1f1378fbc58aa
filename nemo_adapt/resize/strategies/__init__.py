"""The strategies. A new one is one file beside this one and one name here."""

from nemo_adapt.resize.strategies import mean, normal, subword

__all__ = ["mean", "normal", "subword"]
