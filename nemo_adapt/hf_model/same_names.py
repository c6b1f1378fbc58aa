"""Two Hugging Face folders whose tensors have the same names, so that they can be compared."""

from pathlib import Path

from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, Shape
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.weights import HfWeights


def same_names(first: Path, second: Path) -> tuple[HfWeights, HfWeights]:
    """Return the tensors of two folders by the names of their families, where both are of known ones.

    Published files may leave out a prefix, nest a language model in one that reads images (its other parts are compared
    only if both folders have them), or store the output table of a tied model, which nothing reads.
    """
    given, other_given = _family(first), _family(second)
    known = bool(given and other_given)
    ours, theirs = HfWeights(first, *(given if known else ())), HfWeights(second, *(other_given if known else ()))
    if ours.others and theirs.others:
        return HfWeights(first), HfWeights(second)
    say_left_out(first, ours)
    say_left_out(second, theirs)
    for weights, others, its in ((ours, theirs, given), (theirs, ours, other_given)):
        if its and its[1].tied and its[0].output_table not in others.tensors:
            weights.tensors.pop(its[0].output_table, None)
    return ours, theirs


def say_left_out(folder: Path, weights: HfWeights) -> None:
    """Tell the user how many tensors of a folder are not compared, if any."""
    if weights.others:
        say(f"{folder}: {weights.others} tensors that are not the language model's are not compared")


def _family(folder: Path) -> tuple[Family, Shape] | tuple[()]:
    """Return the family and the shape of a folder's model; empty for one that is not covered."""
    try:
        return read_shape(folder)
    except UserError:
        return ()
