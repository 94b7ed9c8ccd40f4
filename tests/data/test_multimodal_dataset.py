import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, LanguagePairDataset
from torch.utils.data import DataLoader

from caf_dkd_plugin.data.image_store import Description, ImageStore
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.data.multimodal_dataset import MultimodalDataset
from caf_dkd_plugin.data.split_images import NO_IMAGE

REGIONS, SIZE = 2, 3
ROWS = np.array([2, NO_IMAGE, 0, 1])
LENGTHS = [2, 3, 4, 3]


@pytest.fixture
def store(tmp_path):
    """Three images; every number of image i is i + 1, so that no image is all zeros."""
    path = tmp_path / "features.h5"
    writer = ImageStoreWriter(
        path, ["a", "b", "c"], (REGIONS, SIZE), "float16", Description("", "grid", "", "", "")
    )
    values = np.arange(1, 4).reshape(3, 1, 1) * np.ones((3, REGIONS, SIZE))
    writer.write(range(3), values.astype("float16"))
    writer.finish()
    return ImageStore(path)


@pytest.fixture
def pairs():
    dictionary = Dictionary()
    for symbol in "uvwxyz":
        dictionary.add_symbol(symbol)
    sentences = [torch.arange(4, 4 + length) for length in LENGTHS]
    return LanguagePairDataset(
        *(sentences, LENGTHS, dictionary, sentences, LENGTHS, dictionary), left_pad_source=False
    )


@pytest.fixture
def dataset(pairs, store):
    return MultimodalDataset(pairs, store, ROWS)


def collate(dataset, indices):
    return dataset.collater([dataset[index] for index in indices])


def test_features_follow_the_sentences_through_the_sort_by_length(dataset):
    batch = collate(dataset, [0, 1, 2])
    assert batch["id"].tolist() == [2, 1, 0]
    net_input = batch["net_input"]
    assert net_input["src_tokens"].tolist() == [[4, 5, 6, 7], [4, 5, 6, 1], [4, 5, 1, 1]]
    expected = torch.tensor([1.0, 0.0, 3.0])[:, None, None].expand(3, REGIONS, SIZE)
    assert torch.equal(net_input["image_features"], expected)
    assert net_input["image_features"].dtype == torch.float32
    assert net_input["image_mask"].tolist() == [[True, True], [False, False], [True, True]]


def test_the_text_is_what_fairseq_makes_of_it(dataset, pairs):
    batch, plain = collate(dataset, [3, 0]), collate(pairs, [3, 0])
    assert batch["ntokens"] == plain["ntokens"]
    assert torch.equal(batch["target"], plain["target"])
    extra = set(batch["net_input"]) - set(plain["net_input"])
    assert extra == {"image_features", "image_mask"}
    for name, tensor in plain["net_input"].items():
        assert torch.equal(batch["net_input"][name], tensor)


def test_the_images_are_there_also_when_nobody_has_one(dataset):
    net_input = collate(dataset, [1])["net_input"]
    assert torch.equal(net_input["image_features"], torch.zeros(1, REGIONS, SIZE))
    assert net_input["image_mask"].tolist() == [[False, False]]


def test_an_empty_batch_stays_empty(dataset):
    assert dataset.collater([]) == {}


def test_the_length_to_pad_to_is_passed_on(dataset):
    batch = dataset.collater([dataset[0]], pad_to_length={"source": 6, "target": 5})
    assert batch["net_input"]["src_tokens"].shape == (1, 6)
    assert batch["target"].shape == (1, 5)


def test_each_batch_is_reported(pairs, store):
    seen = []
    dataset = MultimodalDataset(pairs, store, ROWS, seen.append)
    batches = [collate(dataset, [0]), collate(dataset, [1, 2])]
    assert seen[0] is batches[0]
    assert seen[1] is batches[1]


def test_wrong_numbers_of_rows_are_refused(pairs, store):
    with pytest.raises(ValueError, match="3 rows of images were given for 4 sentences"):
        MultimodalDataset(pairs, store, ROWS[:3])


def test_a_pickled_copy_gives_the_same_batches(dataset):
    collate(dataset, [0])  # opens the memory map, which must not travel
    data = pickle.dumps(dataset)
    assert len(data) < 10_000
    copy = collate(pickle.loads(data), [0, 1, 2])
    expected = collate(dataset, [0, 1, 2])
    assert torch.equal(copy["net_input"]["image_features"], expected["net_input"]["image_features"])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_two_workers_give_the_batches_of_none(dataset, start):
    order = [[0, 1], [2, 3], [3], [1, 2]]
    collate(dataset, [0])
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        collate_fn=dataset.collater,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context(start),
    )
    batches = list(loader)
    assert len(batches) == len(order)
    for batch, indices in zip(batches, order):
        expected = collate(dataset, indices)["net_input"]
        for name, tensor in expected.items():
            assert torch.equal(batch["net_input"][name], tensor)


@pytest.fixture
def pixels(pairs, tmp_path):
    """A data set of pictures of 2 x 5 pixels; every number of image i tells i, row, column, colour."""
    path = tmp_path / "pixels.h5"
    values = np.arange(3 * 2 * 5 * 3, dtype="uint8").reshape(3, 2, 5, 3) + 1
    description = Description("", "", "", "", "")
    writer = ImageStoreWriter(path, ["a", "b", "c"], (2, 5, 3), "uint8", description)
    writer.write(range(3), values)
    writer.finish()
    return MultimodalDataset(pairs, ImageStore(path), ROWS), torch.from_numpy(values)


def test_pixels_follow_the_sentences_as_torchvision_wants_them(pixels):
    dataset, values = pixels
    net_input = collate(dataset, [0, 1, 2])["net_input"]
    black = torch.zeros(3, 2, 5, dtype=torch.uint8)
    expected = torch.stack([values[0].permute(2, 0, 1), black, values[2].permute(2, 0, 1)])
    assert torch.equal(net_input["images"], expected)
    assert net_input["images"].dtype == torch.uint8
    assert net_input["images"].is_contiguous()
    assert net_input["image_mask"].tolist() == [[True], [False], [True]]
    assert "image_features" not in net_input


def test_pixels_are_there_also_when_nobody_has_an_image(pixels):
    net_input = collate(pixels[0], [1])["net_input"]
    assert net_input["images"].shape == (1, 3, 2, 5)
    assert net_input["image_mask"].tolist() == [[False]]
