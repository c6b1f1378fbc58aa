"""Names of parameters as in the whole model, whichever part of it this rank's pipeline stage holds."""

from collections.abc import Iterator
from typing import Any

import torch

from nemo_adapt.model.tables import tables_of
from nemo_adapt.train.new_rows import NAME


def named_parameters(chunk: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the parameters of the bare model ``chunk`` by their names in the whole model: layers are numbered over all
    stages, and the last stage's copy of a tied table is that table. Separate new rows are left out, as their table
    contains them."""
    numbers = {str(place): layer.layer_number - 1 for place, layer in enumerate(chunk.decoder.layers)}
    tables = {id(each.shard): each.key for each in tables_of(chunk)}
    for name, parameter in chunk.named_parameters():
        if name.startswith(NAME):
            continue
        before, dot, rest = name.partition("layers.")
        place, *_ = rest.split(".")
        whole = f"{before}{dot}{numbers[place]}{rest[len(place) :]}" if dot else name
        yield tables.get(id(parameter), whole), parameter
