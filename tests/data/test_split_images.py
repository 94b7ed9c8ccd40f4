import shutil

import pytest
from fairseq import tasks

from caf_dkd_plugin.data.image_store import ImageStore
from caf_dkd_plugin.data.split_files import SplitError, SplitFiles
from caf_dkd_plugin.data.split_images import (
    NO_IMAGE,
    image_rows,
    read_split_ids,
)


def files_of(data, combine=False, upsample_primary=1, pair=("en", "de")):
    return SplitFiles(str(data), *pair, "mmap", combine, upsample_primary)


def lines_of(path):
    return path.read_text().splitlines()


def copy_split(source, split, target, name):
    """Copy a split of a binarised folder, with its list of images, under another name."""
    for path in source.glob(f"{split}.*"):
        shutil.copy(path, target / path.name.replace(split, name, 1))


def test_one_id_for_each_sentence(data_bin):
    assert read_split_ids(files_of(data_bin), "valid") == lines_of(data_bin / "valid.images")


def test_a_folder_serves_both_directions(data_bin):
    files = files_of(data_bin, pair=("de", "en"))
    assert read_split_ids(files, "valid") == lines_of(data_bin / "valid.images")


def test_parts_follow_each_other_and_the_first_is_repeated(data_copy):
    copy_split(data_copy, "valid", data_copy, "train1")
    first, second = lines_of(data_copy / "train.images"), lines_of(data_copy / "valid.images")
    files = files_of(data_copy, combine=True, upsample_primary=2)
    assert read_split_ids(files, "train") == first + first + second
    assert read_split_ids(files._replace(combine=False), "train") == first


def test_a_single_part_is_not_repeated(data_bin):
    files = files_of(data_bin, combine=True, upsample_primary=2)
    assert read_split_ids(files, "valid") == lines_of(data_bin / "valid.images")


def test_a_wrong_count_names_both_numbers_of_every_part(data_copy):
    copy_split(data_copy, "valid", data_copy, "train1")
    (data_copy / "train.images").write_text("a.png\n" * 63)
    (data_copy / "train1.images").write_text("a.png\n" * 22)
    with pytest.raises(SplitError) as caught:
        read_split_ids(files_of(data_copy, combine=True), "train")
    first, second = caught.value.problems
    assert first.startswith(
        f"{data_copy}/train.images has 63 lines, but train in {data_copy} has 64"
    )
    assert second.startswith(f"{data_copy}/train1.images has 22 lines, but train1 in")
    assert "has 20 sentences" in second


def test_a_missing_list_says_what_it_must_hold(data_copy):
    (data_copy / "test.images").unlink()
    with pytest.raises(SplitError, match=r"test\.images does not exist.* 22 sentences of test"):
        read_split_ids(files_of(data_copy), "test")


def test_an_unreadable_list_is_a_problem_of_the_split(data_copy):
    (data_copy / "test.images").write_text(" a.png\n")
    with pytest.raises(SplitError, match=r"test\.images, line 1: .* spaces around the id"):
        read_split_ids(files_of(data_copy), "test")


def test_a_missing_split_is_named(data_bin):
    with pytest.raises(SplitError, match="has no split 'test7' for en-de"):
        read_split_ids(files_of(data_bin), "test7")


def test_rows_of_the_store(write_store, tmp_path):
    store = ImageStore(write_store(tmp_path / "s.h5", ["a", "b"]))
    rows, absent = image_rows(store, ["b", "", "a", "b"], "train")
    assert rows.tolist() == [1, NO_IMAGE, 0, 1]
    assert absent == []


def test_absent_images_are_counted_and_the_first_are_named(write_store, tmp_path):
    store = ImageStore(write_store(tmp_path / "s.h5", ["a"]))
    ids = ["a", "x0", "", "x0", *(f"x{i}" for i in range(1, 7))]
    rows, [line] = image_rows(store, ids, "train")
    assert rows.tolist() == [0] + 9 * [NO_IMAGE]
    assert line.endswith(
        "s.h5 lacks 7 of the images of train, which 8 of its 10 sentences need: "
        "x0 (line 2), x1 (line 5), x2 (line 6), x3 (line 7), x4 (line 8), ..."
    )


@pytest.fixture
def load_triples(parse, store, corpus):
    """What the task makes of a split: (source, target, image id) of every sentence of a batch list."""

    def load(split, *options, data, epoch=1, combine=False):
        cfg = parse("--image-h5", store, *options, data=data)
        task = tasks.setup_task(cfg.task)
        task.load_dataset(split, epoch=epoch, combine=combine)
        dataset = task.dataset(split)
        triples = []
        for index in range(len(dataset)):
            item = dataset[index]
            row = dataset.rows[item["id"]]
            triples.append(
                (
                    task.source_dictionary.string(item["source"]),
                    task.target_dictionary.string(item["target"]),
                    dataset.store.ids[row] if row != NO_IMAGE else "",
                )
            )
        return triples

    return load


@pytest.fixture
def triples_of(corpus, data_bin):
    """The same from the text files, of splits one after the other."""

    def read(*splits):
        triples = []
        for split in splits:
            text = [lines_of(corpus / "text" / f"{split}.{lang}") for lang in ("en", "de")]
            triples += zip(*text, lines_of(data_bin / f"{split}.images"))
        return triples

    return read


def test_the_task_pairs_every_sentence_with_its_image(load_triples, triples_of, data_bin):
    assert load_triples("train", data=data_bin) == triples_of("train")


def test_images_follow_shards_and_upsampling(load_triples, triples_of, data_copy, data_bin):
    copy_split(data_bin, "valid", data_copy, "train1")
    copy_split(data_bin, "test", data_copy, "train2")
    found = load_triples("train", "--upsample-primary", "2", data=data_copy, combine=True)
    expected = triples_of("train", "train", "valid", "test")
    assert found == expected


def test_images_follow_combined_validation_sets(load_triples, triples_of, data_copy, data_bin):
    copy_split(data_bin, "test", data_copy, "valid1")
    found = load_triples("valid", "--combine-val", data=data_copy, combine=True)
    assert found == triples_of("valid", "test")


def test_images_follow_several_folders(load_triples, triples_of, data_bin, data_copy, tmp_path):
    for path in data_copy.glob("train.*"):
        path.unlink()
    copy_split(data_bin, "test", data_copy, "train")
    data = f"{data_bin}:{data_copy}"
    second = load_triples("train", data=data, epoch=2)
    assert second == triples_of("test")
    assert load_triples("train", data=data, epoch=3) == triples_of("train")
    valid = load_triples("valid", data=data, epoch=2)  # always of the first folder
    assert valid == triples_of("valid")
