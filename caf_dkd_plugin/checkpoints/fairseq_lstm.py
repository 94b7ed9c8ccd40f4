"""The weights of fairseq's ``lstm`` as a ``cross_modal_rnn`` with LSTM cells would have them.

A tensor is changed where that is needed to do here what it did there:

* Embeddings are multiplied by sqrt(d) here (ScaledEmbedding), so they are divided by it. Where one
  matrix is also the output layer it must stay as it is; then the layer that reads it is divided.
* Scores are divided by the root of a head's width here, so the query is multiplied by it.
* The attention's result has a bias here, which becomes zero.

With input feeding, one head, and equal widths of embeddings and decoder a step of the decoder is then
the same here and there but for a bias of the output layer, which there is none of with tied
embeddings. The encoder's output is the same; the decoder's first state is not.

Letters: d width of the embeddings, M width of the encoder's output.
"""

import math
import re
from typing import Dict, NamedTuple

import torch
from torch import Tensor

SOURCE_EMBEDDING = "encoder.embed_tokens.weight"
SOURCE_READERS = (
    "encoder.recurrence.rnn.weight_ih_l0",
    "encoder.recurrence.rnn.weight_ih_l0_reverse",
)
TARGET_EMBEDDING = "decoder.embed_tokens.weight"
TARGET_READER = "decoder.recurrence.rnn.weight_ih_l0"
QUERY = "decoder.recurrence.query.weight"
RESULT = "decoder.recurrence.output.weight"
RESULT_BIAS = "decoder.recurrence.output.bias"
OUTPUT_LAYER = "decoder.output_projection.weight"

COUNTERPARTS = (
    (r"(encoder|decoder)\.embed_tokens\.weight", r"\1.embed_tokens.weight"),
    (r"encoder\.lstm\.(\w+)", r"encoder.recurrence.rnn.\1"),
    (r"decoder\.layers\.(\d+)\.(\w+)", r"decoder.recurrence.rnn.\2_l\1"),
    (r"decoder\.attention\.input_proj\.weight", QUERY),
    (r"decoder\.attention\.output_proj\.weight", RESULT),
    (r"decoder\.fc_out\.weight", OUTPUT_LAYER),
)
"""regular expression of a name there, name here"""

NO_COUNTERPART = {
    r"decoder\.encoder_(hidden|cell)_proj\..*": "the first state is computed from the mean of the "
    "encoder's output here",
    r"decoder\.additional_fc\..*": "the attention's result has the width of the embeddings here",
    r"decoder\.fc_out\.bias": "the output layer has no bias here",
}
"""regular expression of a name there, why there is nothing like it here"""


class Offer(NamedTuple):
    """What a checkpoint has for a tensor of the model."""

    origin: str
    """its name in the checkpoint"""
    value: Tensor
    change: str = ""
    """what was done to it, in words"""


def is_fairseq_lstm(weights: Dict[str, Tensor]) -> bool:
    """Whether a state dict is that of fairseq's lstm: encoder, and decoder of single cells."""
    return {"encoder.lstm.weight_ih_l0", "decoder.layers.0.weight_ih"} <= weights.keys()


def offers_of_lstm(
    weights: Dict[str, Tensor], here: Dict[str, Tensor], scales: Dict[str, float], heads: int
) -> Dict[str, Offer]:
    """What fairseq's lstm has for the tensors of a model here, whether or not it fits.

    Args:
        weights: its state dict.
        here: the model's tensors; tied ones are the same object.
        scales: name of an embedding here -> the factor by which it is multiplied.
        heads: of the decoder's attention here.
    """
    offers = {}
    for origin, value in weights.items():
        for pattern, name in COUNTERPARTS:
            match = re.fullmatch(pattern, origin)
            if match:
                offers[match.expand(name)] = Offer(origin, value.float())
    if not any(re.match(r"decoder\.(fc_out|adaptive_softmax)\.", name) for name in weights):
        offers[OUTPUT_LAYER] = offers[TARGET_EMBEDDING]  # tied
    for embedding, readers in (
        (SOURCE_EMBEDDING, SOURCE_READERS),
        (TARGET_EMBEDDING, (TARGET_READER,)),
    ):
        width = offers[embedding].value.size(1)
        tied = here[embedding] is here[OUTPUT_LAYER]
        for name in readers if tied else (embedding,):
            if name in offers:  # the encoder there may have one direction
                offers[name] = _scaled(offers[name], width, 1 / scales[embedding])
    if QUERY in offers:  # a decoder there may have no attention
        head_width = offers[QUERY].value.size(0) / heads
        offers[QUERY] = _scaled(offers[QUERY], offers[QUERY].value.size(1), math.sqrt(head_width))
    if RESULT in offers and offers[RESULT].value.shape == here[RESULT].shape:
        offers[RESULT_BIAS] = Offer(
            offers[RESULT].origin, torch.zeros_like(here[RESULT_BIAS]), "zero, as it has no bias"
        )
    return {name: offer for name, offer in offers.items() if name in here}


def _scaled(offer: Offer, columns: int, factor: float) -> Offer:
    value = offer.value.clone()
    value[:, :columns] *= factor
    which = "" if columns == value.size(1) else f"its first {columns} columns "
    return offer._replace(value=value, change=f"{which}times {factor:.4g}")
