"""What the trainings of the benchmarks share: text, command lines, matrix products."""

import numpy as np
import pytest
from fairseq.data import Dictionary, data_utils


@pytest.fixture(scope="module")
def fairseq_training(benchmark):
    return benchmark("fairseq_training")


@pytest.fixture(scope="module")
def quick(benchmark):
    return benchmark("sizes").QUICK


@pytest.fixture(scope="module")
def trainings(fairseq_training, quick, tmp_path_factory):
    """Ours and fairseq's of the same sizes."""
    data = fairseq_training.write_data(tmp_path_factory.mktemp("text") / "data", quick, 5)
    options = fairseq_training.common_options(data, quick)
    options += [*fairseq_training.PLAIN, *fairseq_training.ON_CPU]
    return [
        fairseq_training.Training([*options, *model(16)])
        for model in (fairseq_training.cross_modal_rnn, fairseq_training.fairseq_lstm)
    ]


def test_text_is_as_long_and_as_varied_as_asked(benchmark, tmp_path):
    write_text = benchmark("made_up_text").write_text
    data = write_text(tmp_path / "data", {"train": 2000}, 500, (12, 4), 7)
    target = data_utils.load_indexed_dataset(str(data / "train.en-de.de"))
    lengths = target.sizes - 1  # each ends with </s>
    assert lengths.mean() == pytest.approx(12, abs=0.5)
    assert lengths.std() == pytest.approx(4, abs=0.5)
    dictionary = Dictionary.load(str(data / "dict.de.txt"))
    assert len(dictionary) == 500
    words = np.concatenate([target[place].numpy() for place in range(len(target))])
    assert words.max() < 500
    assert np.bincount(words)[dictionary.nspecial] > 20 * np.bincount(words).min()  # Zipf
    assert len(set((data / "train.images").read_text().split())) == 7


def test_sources_are_stretched(benchmark, tmp_path):
    write_text = benchmark("made_up_text").write_text
    data = write_text(tmp_path / "data", {"train": 8}, 50, (12, 0), 1, stretch=4)
    for lang, length in (("en", 48), ("de", 12)):
        sentences = data_utils.load_indexed_dataset(str(data / f"train.en-de.{lang}"))
        assert {len(line) for line in sentences} == {length + 1}


def test_both_sides_train_on_the_same_batches(trainings):
    ours, theirs = trainings
    assert ours.shapes(10) == theirs.shapes(10)
    assert ours.steps(3) == theirs.steps(3) == sum(shape.words for shape in ours.shapes(3))


def test_both_sides_are_as_wide(trainings):
    ours, theirs = (training.model for training in trainings)
    assert ours.encoder.output_size == theirs.encoder.output_units
    for one, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        assert one.embed_tokens.weight.shape == other.embed_tokens.weight.shape
    assert ours.decoder.output_projection.weight.shape == theirs.decoder.fc_out.weight.shape


def sizes_of_weights(module, twice=()):
    """Of each matrix but embeddings; those named in `twice` count as two halves."""
    found = []
    for name, parameter in module.named_parameters():
        if parameter.dim() == 2 and "embed_tokens" not in name:
            halves = 1 + (name in twice)
            found += [parameter.numel() // halves] * halves
    return sorted(found)


def test_the_products_are_those_of_the_model(benchmark, fairseq_training, trainings, quick):
    """Each matrix of weights takes part in one product, but one half after the other in two."""
    shape = fairseq_training.Shape(sentences=4, source=5, target=6, words=20)
    products = benchmark("matrix_products").text_products(shape, 16, quick.symbols)
    layers = [product.inner * product.columns for product in products if product.batch == 1]
    twice = ["decoder.recurrence.output.weight"]
    assert sorted(layers) == sizes_of_weights(trainings[0].model, twice)


def test_the_products_of_images_are_those_of_the_fusion(
    benchmark, fairseq_training, quick, tmp_path
):
    store = benchmark("made_up_images").write_store(tmp_path / "i.h5", 5, 4, quick.features)
    data = fairseq_training.write_data(tmp_path / "data", quick, 5)
    words = [*fairseq_training.common_options(data, quick), *fairseq_training.PLAIN]
    words += [*fairseq_training.ON_CPU, *fairseq_training.cross_modal_rnn(16)]
    model = fairseq_training.Training([*words, "--image-h5", str(store)]).model
    shape = fairseq_training.Shape(sentences=4, source=5, target=6, words=20)
    products = benchmark("matrix_products").fusion_products(shape, 16, 4, quick.features)
    layers = [product.inner * product.columns for product in products if product.batch == 1]
    assert sorted(layers) == sizes_of_weights(model.encoder.fusion)
    assert sum(not product.to_rows for product in products) == 2  # keys and values of the image


def test_the_settings_of_hydra_reach_the_model(benchmark, fairseq_training, quick, tmp_path):
    data = fairseq_training.write_data(tmp_path / "data", quick, 5)
    words = fairseq_training.common_options(data, quick)
    words += [*fairseq_training.PLAIN, *fairseq_training.ON_CPU]
    settings = benchmark("training_bf16").SETTINGS["bf16"]
    training = fairseq_training.Training([*words, *fairseq_training.cross_modal_rnn(16)], settings)
    training.steps(1)
    assert {str(p.dtype) for p in training.model.parameters()} == {"torch.bfloat16"}
    assert 0 < training.validation_loss() < 10
