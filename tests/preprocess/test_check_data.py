"""The real script on a small binarised folder: its table, its notes and every error message."""

import shutil

import h5py
import numpy as np
import pytest
from fairseq import options
from fairseq_cli import preprocess

from caf_dkd_plugin.data.image_store import Description
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter

LINES = {"train": 5, "valid": 3, "test": 2, "test3": 2}
ABOUT = Description("resnet18", "grid", "none", "a" * 64, "resized")


def write_store(path, ids):
    writer = ImageStoreWriter(path, ids, (4, 8), "float16", ABOUT)
    writer.write(range(len(ids)), np.ones((len(ids), 4, 8), dtype="float16"))
    writer.finish()


def binarise(folder, **prefixes):
    command = ["--source-lang", "en", "--target-lang", "de", "--destdir", str(folder)]
    for name, prefix in prefixes.items():
        command += [f"--{name}", str(prefix)]
    preprocess.main(options.get_preprocessing_parser().parse_args(command))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of four splits, with their lists of images; the store beside it has all of them."""
    folder = tmp_path_factory.mktemp("made")
    for split, count in LINES.items():
        for lang in ("en", "de"):
            lines = [f"{lang} {split} {number}\n" for number in range(count)]
            (folder / f"{split}.{lang}").write_text("".join(lines))
    data = folder / "data"
    binarise(data, trainpref=folder / "train", validpref=folder / "valid", testpref=folder / "test")
    binarise(
        folder / "other",
        testpref=folder / "test3",
        srcdict=data / "dict.en.txt",
        tgtdict=data / "dict.de.txt",
    )
    for path in (folder / "other").glob("test.en-de.*"):
        path.rename(data / path.name.replace("test", "test3", 1))
    for split, count in LINES.items():
        ids = [f"{split}{number}.jpg" for number in range(count)]
        (data / f"{split}.images").write_text("".join(f"{name}\n" for name in ids))
    write_store(
        folder / "store.h5", [f"{s}{n}.jpg" for s, count in LINES.items() for n in range(count)]
    )
    return folder


@pytest.fixture
def data(made, tmp_path):
    """A copy of the folder that a test may change."""
    return shutil.copytree(made / "data", tmp_path / "data")


@pytest.fixture
def store(made, tmp_path):
    """A copy of the store that a test may change."""
    return shutil.copy(made / "store.h5", tmp_path / "store.h5")


@pytest.fixture
def run(check_data, data, store, capsys):
    """Run the script; its exit code, output with single spaces, and errors."""

    def run(*options, store=store):
        code = check_data.main([str(data), "--image-h5", str(store), *options])
        captured = capsys.readouterr()
        lines = [" ".join(line.split()) for line in captured.out.splitlines()]
        return code, lines, captured.err

    return run


def test_a_good_folder_passes_with_its_numbers(run, store):
    code, said, error = run()
    assert (code, error) == (0, "")
    assert said[:5] == [
        "split pair sentences lines in the store missing without",
        "train en-de 5 5 5 0 0",
        "valid en-de 3 3 3 0 0",
        "test en-de 2 2 2 0 0",
        "test3 en-de 2 2 2 0 0",
    ]
    assert (
        f"- {store}: 12 rows of features, 4 x 8 float16, resnet18 grid, weights none (SHA-256 aaaaaaaaaaaa)"
        in said
    )
    assert said[-1] == "no problems"


def test_a_folder_without_images_can_be_checked(check_data, data, capsys):
    for path in data.glob("*.images"):
        path.unlink()
    assert check_data.main([str(data)]) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said[1] == "train en-de 5 - - - -"
    assert "- no --image-h5: images are not checked" in said
    assert said[-1] == "no problems"


def test_lines_without_an_image_are_counted_and_fine(run, data):
    (data / "valid.images").write_text("valid0.jpg\n\n\n")
    code, said, _ = run()
    assert code == 0
    assert "valid en-de 3 3 1 0 2" in said


def test_missing_images_are_an_error(run, data):
    (data / "train.images").write_text("train0.jpg\nlost.jpg\ntrain1.jpg\ngone.jpg\nlost.jpg\n")
    code, said, error = run()
    assert code == 1
    assert "train en-de 5 5 2 3 0" in said
    assert "lacks 2 of the images of train, which 3 of its 5 sentences need" in error
    assert "lost.jpg (line 2), gone.jpg (line 4)" in error
    assert said[-1] == "1 problems"


def test_missing_images_may_be_meant(run, data):
    (data / "train.images").write_text("train0.jpg\nlost.jpg\n\n\n\n")
    code, said, error = run("--image-missing", "mask")
    assert (code, error) == (0, "")
    assert "train en-de 5 5 1 1 3" in said
    assert [line for line in said if "lacks 1 of the images of train" in line]


def test_a_store_with_none_of_the_images_is_another_one(run, data, store):
    """Also where missing ones are meant: a model would learn to translate without."""
    for path in data.glob("*.images"):
        path.write_text("".join(f"photos/{line}\n" for line in path.read_text().splitlines()))
    code, said, error = run("--image-missing", "mask")
    assert code == 1
    named = sum(LINES.values())
    assert f"{store} has none of the {named} images that the splits name, such as photos/" in error
    assert "its own are called train0.jpg" in error
    assert said[-1] == "1 problems"


def test_unused_images_are_noted(run, data):
    (data / "train.images").write_text("train0.jpg\n\n\n\n\n")
    code, said, _ = run()
    assert code == 0
    unused = "train1.jpg, train2.jpg, train3.jpg, train4.jpg"
    assert f"- 4 of the store's 12 images are unused: {unused}" in said


@pytest.mark.parametrize("lines", [4, 6])
def test_a_wrong_count_is_an_error(run, data, lines):
    (data / "train.images").write_text("train0.jpg\n" * lines)
    code, said, error = run()
    assert code == 1
    assert f"train.images has {lines} lines, but train in {data} has 5 sentences" in error
    assert f"train en-de 5 {lines} {lines} 0 0" in said


def test_every_split_needs_its_list(run, data):
    (data / "test3.images").unlink()
    code, said, error = run()
    assert code == 1
    assert "test3.images cannot be read: No such file" in error
    assert "without it the split can only be used without --image-h5" in error
    assert "test3 en-de 2 - - - -" in said


def test_a_bad_list_is_an_error(run, data):
    (data / "valid.images").write_text("valid0.jpg\n valid1.jpg\n\n")
    code, _, error = run()
    assert code == 1
    assert "valid.images, line 2: ' valid1.jpg' has spaces around the id" in error


def test_a_list_that_goes_with_no_split_is_noted(run, data):
    (data / "valdi.images").write_text("valid0.jpg\n")
    code, said, _ = run()
    assert code == 0
    assert "- no split of the folder goes with valdi.images" in said


def test_sides_of_different_length_are_an_error(run, data):
    for suffix in ("bin", "idx"):
        shutil.copy(data / f"train.en-de.de.{suffix}", data / f"valid.en-de.de.{suffix}")
    code, said, error = run()
    assert code == 1
    assert f"valid in {data} has 3 of en and 5 of de; binarise it again" in error
    assert "valid en-de ? 3 3 0 0" in said


@pytest.mark.parametrize("lost", ["valid.en-de.de.idx", "valid.en-de.de.bin"])
def test_a_lost_file_is_an_error(run, data, lost):
    (data / lost).unlink()
    code, _, error = run()
    assert code == 1
    assert "valid.en-de.de" in error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fairseq's __del__
def test_a_damaged_index_is_an_error(run, data):
    (data / "valid.en-de.de.idx").write_bytes(b"MMIDIDX\x00\x00")
    code, _, error = run()
    assert code == 1
    assert "valid.en-de.de.idx or .bin cannot be read" in error


def test_a_folder_without_splits_is_an_error(run, data):
    for path in data.glob("*.idx"):
        path.unlink()
    code, _, error = run()
    assert code == 1
    assert f"{data} has no binarised split" in error


def test_dictionaries_are_compared(run, data):
    assert "- dictionaries: de 16 symbols, en 16 symbols" in run()[1]
    assert [line for line in run()[1] if line.startswith("- de and en differ: symbol ")]
    shutil.copy(data / "dict.en.txt", data / "dict.de.txt")
    assert "- they are the same (one joint dictionary)" in run()[1]


@pytest.mark.parametrize("content", [None, "no count\n", "a 1\na 1\n"])
def test_a_bad_dictionary_is_an_error(run, data, content):
    (data / "dict.de.txt").unlink()
    if content:
        (data / "dict.de.txt").write_text(content)
    code, _, error = run()
    assert code == 1
    assert "dict.de.txt is no readable fairseq dictionary" in error


# Sentences in a third language


def add_side(data, split, lines):
    """Sentences as preprocess/prepare_multi30k.py --teacher-source leaves them."""
    made = data.parent / f"made.{split}"
    text = data.parent / f"{split}.fr"
    text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    command = ["--source-lang", "fr", "--target-lang", "de", "--only-source"]
    command += ["--trainpref", str(data.parent / split), "--destdir", str(made)]
    preprocess.main(options.get_preprocessing_parser().parse_args(command))
    for suffix in ("bin", "idx"):
        (made / f"train.fr-de.fr.{suffix}").rename(data / f"{split}.en-de.fr.{suffix}")
    if not (data / "dict.fr.txt").exists():
        shutil.copy(made / "dict.fr.txt", data)


def test_a_good_side_passes_and_its_dictionary_is_noted(run, data):
    add_side(data, "train", ["un", "deux", "trois", "un", "deux"])
    code, said, error = run()
    assert (code, error) == (0, "")
    assert "- dictionaries: de 16 symbols, en 16 symbols, fr 8 symbols" in said
    assert [line for line in said if line.startswith("- de and fr differ: symbol ")]


@pytest.mark.parametrize("lines", [4, 6])
def test_a_side_has_as_many_sentences_as_its_split(run, data, lines):
    add_side(data, "train", ["un"] * lines)
    add_side(data, "valid", ["un"] * 3)
    code, _, error = run()
    assert code == 1
    assert f"train.en-de.fr.bin has {lines} sentences, but train in {data} has 5; binarise" in error
    assert "valid" not in error


def test_empty_sentences_of_a_side_are_an_error(run, data):
    add_side(data, "train", ["un", "", "deux", "", "un"])
    code, _, error = run()
    assert code == 1
    assert "train.en-de.fr.bin has 2 empty sentences of 5, the first in line 2" in error


def test_symbols_that_the_dictionary_lacks_are_an_error(run, data):
    add_side(data, "train", ["un", "un", "un deux", "un trois", "un"])
    entries = (data / "dict.fr.txt").read_text("utf-8").splitlines(keepends=True)
    assert entries[0] == "un 5\n"
    (data / "dict.fr.txt").write_text("".join(entries[:2]), "utf-8")
    code, _, error = run()
    assert code == 1
    last = entries[2].split()[0]
    line = {"deux": 3, "trois": 4}[last]
    assert "train.en-de.fr.bin has symbols beyond the 6 of dict.fr.txt in 1 sentences of 5" in error
    assert f"the first in line {line}; binarise it again, with this dictionary" in error


@pytest.mark.parametrize("lang", ["en", "de"])
def test_symbols_of_a_pair_that_the_dictionary_lacks_are_an_error(run, data, lang):
    path = data / f"dict.{lang}.txt"
    entries = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(entries[:3]), "utf-8")  # fairseq adds four of its own
    code, _, error = run()
    assert code == 1
    assert f".en-de.{lang}.bin has symbols beyond the 7 of dict.{lang}.txt in" in error
    other = "de" if lang == "en" else "en"
    assert f"of dict.{other}.txt" not in error


@pytest.mark.parametrize("lang", ["en", "de"])
def test_a_pair_that_was_cut_off_is_an_error(run, data, lang):
    path = data / f"valid.en-de.{lang}.bin"
    path.write_bytes(path.read_bytes()[:-2])
    code, _, error = run()
    assert code == 1
    assert f"{path} cannot be read: " in error


def test_a_side_needs_its_dictionary(run, data):
    add_side(data, "valid", ["un"] * 3)
    (data / "dict.fr.txt").unlink()
    code, said, error = run()
    assert code == 1
    assert "dict.fr.txt is no readable fairseq dictionary" in error
    assert said[-1] == "1 problems"


@pytest.mark.parametrize("lost", ["idx", "bin"])
def test_a_lost_file_of_a_side_is_an_error(run, data, lost):
    add_side(data, "valid", ["un"] * 3)
    (data / f"valid.en-de.fr.{lost}").unlink()
    code, _, error = run()
    assert code == 1
    assert "valid.en-de.fr.idx and .bin are not both there" in error


def test_a_side_that_was_cut_off_is_an_error(run, data):
    add_side(data, "valid", ["un"] * 3)
    path = data / "valid.en-de.fr.bin"
    path.write_bytes(path.read_bytes()[:-3])
    code, _, error = run()
    assert code == 1
    assert "valid.en-de.fr.bin cannot be read: buffer is smaller" in error


def test_all_that_is_wrong_with_sides_is_reported_at_once(run, data):
    add_side(data, "train", ["un", "", "deux"])
    add_side(data, "valid", ["trois"] * 2)
    (data / "dict.fr.txt").write_text("un 1\n", "utf-8")
    code, said, error = run()
    assert code == 1
    assert said[-1] == "4 problems"
    for problem in (
        "train.en-de.fr.bin has 3 sent",
        "has 1 empty",
        "symbols beyond",
        "valid.en-de.fr",
    ):
        assert problem in error


# Everything


def test_all_problems_come_in_one_report(run, data):
    (data / "train.images").unlink()
    (data / "valid.images").write_text("lost.jpg\n")
    code, said, error = run()
    assert code == 1
    assert said[-1] == "3 problems"
    assert error.count("error: ") == 3


def test_changed_rows_are_found(run, store):
    with h5py.File(store, "r+") as file:
        file["features"][3, 0, 0] = np.nan
    code, _, error = run()
    assert code == 1
    assert "rows 0 to 11 (train0.jpg to test31.jpg) have changed" in error
    assert "row 3 (train3.jpg) has NaN or infinite values" in error
    assert run("--no-hashes")[0] == 0


def test_a_store_that_does_not_open_is_an_error(run, tmp_path):
    code, _, error = run(store=tmp_path / "lost.h5")
    assert code == 1
    assert error.startswith(f"error: {tmp_path / 'lost.h5'} does not exist.")
