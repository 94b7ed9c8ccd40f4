"""The real script on tiny releases of both layouts: what it writes, and every error message."""

import gzip
import json

import numpy as np
import pytest
import sentencepiece
from fairseq.data import Dictionary, data_utils

from caf_dkd_plugin.data.image_ids import read_image_ids

NOUNS = ["bat", "crane", "seal", "nail", "bow", "trunk", "match", "palm"]
GERMAN = ["Fledermaus", "Kran", "Robbe", "Nagel", "Schleife", "Koffer", "Spiel", "Palme"]
LINES = {
    "train": 40,
    "val": 6,
    "val_images": 5,
    "test_2016_flickr": 4,
    "test_2017_flickr": 3,
    "test_2017_mscoco": 2,
    "test_heldout": 7,
}


def sentences(split, lang):
    """The lines of a split; the train split has an empty one and odd characters inside lines."""
    nouns = {"en": NOUNS, "de": GERMAN, "cs": NOUNS}[lang]
    frame = {"en": "A {} lies beside {}.", "de": "{} liegt neben {}.", "cs": "{} u {}."}[lang]
    lines = [
        frame.format(nouns[(number + len(split)) % 8], nouns[number // 8 % 8])
        for number in range(LINES[split])
    ]
    if split == "train":
        lines[3] = ""
        lines[5] = lines[5].replace(" ", "\u2028", 1)
        lines[6] = lines[6].replace(" ", " \x85 ", 1)
        lines[7] = lines[7].replace(" ", "\r", 1)
        lines[8] = f"  {lines[8]}  "
    return lines


def image_ids(split):
    return [f"{split}_{number}.jpg" for number in range(LINES[split])]


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def plain(tmp_path):
    """A release as text/SPLIT.LANG, text/SPLIT.images and two pictures."""
    root = tmp_path / "plain"
    for split in LINES:
        for lang in ("en", "de"):
            write_lines(root / "text" / f"{split}.{lang}", sentences(split, lang))
        write_lines(root / "text" / f"{split}.images", image_ids(split))
    write_lines(root / "text" / "train.cs", sentences("train", "cs"))
    for name in ("train_0.jpg", "train_9.jpg"):
        write_lines(root / "images" / name, [])
    return root


@pytest.fixture
def official(tmp_path):
    """A clone of the official release: gzipped, without the splits that are not in it."""
    root = tmp_path / "official"
    task = root / "data" / "task1"
    for split in LINES:
        if split in ("val_images", "test_heldout"):
            continue
        for lang in ("en", "de"):
            write_lines(task / "raw" / f"{split}.{lang}.gz", sentences(split, lang))
        suffix = "#123" if split == "test_2017_mscoco" else ""
        write_lines(
            task / "image_splits" / f"{split}.txt", [name + suffix for name in image_ids(split)]
        )
    return root


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "en-de"


@pytest.fixture
def run(prepare_multi30k, output, capsys):
    """Run the script on a release; its exit code, output and errors."""

    def run(root, *options, languages=("en", "de"), output=output):
        source, target = languages
        command = ["--root", root, "--source", source, "--target", target, "--output", output]
        code = prepare_multi30k.main([str(part) for part in [*command, *options]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def decoded(folder, prefix, lang, pair="en-de"):
    """The sentences of a binarised split, put together again."""
    dictionary = Dictionary.load(str(folder / f"dict.{lang}.txt"))
    data = data_utils.load_indexed_dataset(str(folder / f"{prefix}.{pair}.{lang}"))
    return [dictionary.string(sentence, "sentencepiece") for sentence in data]


def normalised(lines):
    return [" ".join(line.split()) for line in lines]


PREFIXES = {
    "train": "train",
    "val": "valid",
    "val_images": "valid1",
    "test_2016_flickr": "test",
    "test_2017_flickr": "test1",
    "test_2017_mscoco": "test2",
    "test_heldout": "test3",
}


# What is written


def test_every_sentence_arrives_in_its_place(run, plain, output):
    code, said, _ = run(plain)
    assert code == 0
    assert f"wrote {output}" in said
    for split, prefix in PREFIXES.items():
        for lang in ("en", "de"):
            lines = sentences(split, lang)
            assert decoded(output, prefix, lang) == normalised(lines), (split, lang)
            raw = (output / "text" / f"{prefix}.{lang}").read_bytes().decode("utf-8")
            assert raw == "".join(f"{line}\n" for line in lines)
        assert read_image_ids(output / f"{prefix}.images") == image_ids(split)
    assert not [path for path in output.parent.iterdir() if path != output]
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == ["text"]


def test_the_official_release_gives_the_same(run, plain, official, output, tmp_path):
    assert run(official)[0] == 0
    assert run(plain, output=tmp_path / "other")[0] == 0
    for split, prefix in PREFIXES.items():
        if split in ("val_images", "test_heldout"):
            assert not list(output.glob(f"{prefix}.*"))
            continue
        names = [f"{prefix}.images", f"text/{prefix}.de", f"{prefix}.en-de.de.bin"]
        for name in names:
            assert (output / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
    assert read_image_ids(output / "test2.images") == image_ids("test_2017_mscoco")


@pytest.mark.parametrize("below", ["data/task1", ""])
def test_the_official_release_is_found_from_its_task_folder_too(run, official, output, below):
    assert run(official / below)[0] == 0


def test_the_dictionary_is_joint_and_knows_every_piece(run, plain, output):
    run(plain)
    assert (output / "dict.en.txt").read_bytes() == (output / "dict.de.txt").read_bytes()
    model = sentencepiece.SentencePieceProcessor(model_file=str(output / "sentencepiece.model"))
    dictionary = Dictionary.load(str(output / "dict.en.txt"))
    pieces = [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
    assert dictionary.symbols[dictionary.nspecial :] == pieces
    assert [model.id_to_piece(number) for number in range(3)] == ["<unk>", "<s>", "</s>"]


def test_sentencepiece_sees_the_training_text_only(run, plain, output):
    write_lines(plain / "text" / "val.de", ["żółć"] * LINES["val"])
    run(plain)
    assert not set("żół") & set((output / "dict.de.txt").read_text("utf-8"))
    rows = [line.split("\t") for line in (output / "splits.tsv").read_text("utf-8").splitlines()]
    assert rows[2] == ["valid", "val", "6", "6", "0", "0", "6"]


def test_the_table_names_every_split_with_its_numbers(run, plain, output):
    write_lines(plain / "text" / "val.images", ["", *image_ids("val")[1:]])
    _, said, _ = run(plain)
    rows = [line.split("\t") for line in (output / "splits.tsv").read_text("utf-8").splitlines()]
    header = ["split", "multi30k", "lines", "image_ids", "pictures", "unknown_en", "unknown_de"]
    assert rows[:3] == [
        header,
        ["train", "train", "40", "40", "2", "0", "0"],
        ["valid", "val", "6", "5", "0", "0", "0"],
    ]
    assert [row[0] for row in rows[1:]] == list(PREFIXES.values())
    for row in rows:
        assert " ".join(row) in [" ".join(line.split()) for line in said.splitlines()]


def test_numbers_stay_when_splits_are_absent(run, plain, output):
    for split in ("val", "test_2016_flickr", "test_2017_flickr"):
        (plain / "text" / f"{split}.en").unlink()
    code, said, _ = run(plain)
    assert code == 0
    assert "absent, left out: val (no en)" in said
    assert "absent, left out: test_2017_flickr (no en)" in said
    assert decoded(output, "valid1", "de") == sentences("val_images", "de")
    assert decoded(output, "test2", "de") == sentences("test_2017_mscoco", "de")
    assert decoded(output, "test3", "en") == sentences("test_heldout", "en")
    for prefix in ("valid", "test", "test1"):
        assert not list(output.glob(f"{prefix}.*"))


def test_another_pair_leaves_out_the_splits_it_lacks(run, plain, output):
    code, said, _ = run(plain, languages=("de", "cs"))
    assert code == 0
    assert decoded(output, "train", "cs", "de-cs") == normalised(sentences("train", "cs"))
    assert "absent, left out: val (no cs)" in said


def test_valid1_comes_with_a_word_on_fairseqs_check(run, plain, official, output, tmp_path):
    assert "--ignore-unused-valid-subsets" in run(plain)[1]
    assert "--ignore-unused-valid-subsets" not in run(official, output=tmp_path / "other")[1]


def test_a_split_without_a_list_of_images_gets_none(run, plain, output):
    (plain / "text" / "val.images").unlink()
    code, said, _ = run(plain)
    assert code == 0
    assert "val has no list of images, so there is no valid.images" in said
    assert not (output / "valid.images").exists()
    assert (output / "train.images").exists()


# Subsets


def test_a_subset_by_line_numbers(run, plain, output, tmp_path):
    chosen = [30, 2, 3, 17]
    write_lines(tmp_path / "few.lines", chosen)
    assert run(plain, "--subset", tmp_path / "few.lines")[0] == 0
    for lang in ("en", "de"):
        expected = [sentences("train", lang)[number] for number in chosen]
        assert decoded(output, "train", lang) == expected
    assert read_image_ids(output / "train.images") == [image_ids("train")[n] for n in chosen]
    assert len(decoded(output, "test3", "en")) == LINES["test_heldout"]


def test_a_subset_of_the_first_lines(run, plain, output):
    assert run(plain, "--subset", "3")[0] == 0
    assert decoded(output, "train", "en") == sentences("train", "en")[:3]
    pieces = (output / "dict.en.txt").read_text("utf-8")
    unseen = set("".join(sentences("train", "de"))) - set("".join(sentences("train", "de")[:3]))
    assert unseen - set("".join(sentences("train", "en")[:3]))  # the test is about something
    assert not (unseen - set("".join(sentences("train", "en")[:3]))) & set(pieces)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1", "40"], "'40' (line 2) is none of the line numbers 0 to 39"),
        (["1", "two", "-3"], "'two' (line 2) is none of the line numbers 0 to 39 and 1 more such"),
        (["1", "7", "1"], "1 (line 3) is there twice"),
        ([], "few.lines is empty"),
    ],
)
def test_a_bad_subset_is_refused(run, plain, output, tmp_path, lines, message):
    write_lines(tmp_path / "few.lines", lines)
    code, _, error = run(plain, "--subset", tmp_path / "few.lines")
    assert code == 1
    assert message in error
    assert not output.exists()


@pytest.mark.parametrize("number", ["0", "41"])
def test_a_subset_of_too_many_or_no_lines_is_refused(run, plain, number):
    assert f"--subset {number}: train has 40 lines" in run(plain, "--subset", number)[2]


def test_a_missing_subset_file_is_named(run, plain):
    assert "few.lines cannot be read: " in run(plain, "--subset", "few.lines")[2]


# Vocabularies


def test_a_vocabulary_too_big_for_the_text_becomes_smaller(run, plain, output):
    code, said, _ = run(plain, "--vocab-size", "8000")
    assert code == 0
    model = sentencepiece.SentencePieceProcessor(model_file=str(output / "sentencepiece.model"))
    size = model.get_piece_size()
    assert size < 1000
    assert f"the text has only {size} pieces, fewer than the 8000 asked for" in said
    assert decoded(output, "train", "en") == normalised(sentences("train", "en"))


def test_one_sentence_is_enough(run, plain, output):
    assert run(plain, "--subset", "1")[0] == 0
    assert decoded(output, "train", "de") == sentences("train", "de")[:1]


def test_the_vocabulary_has_the_size_that_was_asked_for(run, plain, output):
    run(plain, "--vocab-size", "50")
    model = sentencepiece.SentencePieceProcessor(model_file=str(output / "sentencepiece.model"))
    assert model.get_piece_size() == 50


def test_a_vocabulary_too_small_for_the_characters_is_refused(run, plain, output):
    code, _, error = run(plain, "--vocab-size", "5")
    assert code == 1
    assert "sentencepiece cannot make 5 pieces of 80 sentences: " in error
    assert "Choose another --vocab-size" in error
    assert not output.exists()


@pytest.mark.parametrize(
    ("pairs", "size"), [(1, 500), (1_000, 1_100), (10_000, 3_600), (29_000, 6_100), (10**6, 10_000)]
)
def test_the_default_size_grows_with_the_text(prepare_multi30k, pairs, size):
    assert prepare_multi30k.default_vocab_size(pairs) == size


def test_a_student_shares_its_teachers_pieces_and_dictionaries(run, plain, output, tmp_path):
    teacher = tmp_path / "teacher"
    run(plain, output=teacher)
    code, _, _ = run(
        plain,
        *("--subset", "5", "--sentencepiece", teacher / "sentencepiece.model"),
        *("--source-dictionary", teacher / "dict.en.txt"),
        *("--target-dictionary", teacher / "dict.de.txt"),
    )
    assert code == 0
    for name in ("sentencepiece.model", "dict.en.txt", "dict.de.txt", "test3.en-de.de.bin"):
        assert (output / name).read_bytes() == (teacher / name).read_bytes(), name
    assert decoded(output, "train", "de") == normalised(sentences("train", "de")[:5])


def test_the_model_alone_gives_the_teachers_dictionary_too(run, plain, output, tmp_path):
    run(plain, output=tmp_path / "teacher")
    run(plain, "--subset", "5", "--sentencepiece", tmp_path / "teacher" / "sentencepiece.model")
    for name in ("dict.en.txt", "dict.de.txt"):
        assert (output / name).read_bytes() == (tmp_path / "teacher" / name).read_bytes()


def test_each_side_may_have_its_own_dictionary(run, plain, output, tmp_path):
    run(plain, output=tmp_path / "teacher")
    own = (tmp_path / "teacher" / "dict.de.txt").read_text("utf-8").splitlines()[::-1]
    write_lines(tmp_path / "own.txt", own)
    code, _, _ = run(
        plain,
        *("--sentencepiece", tmp_path / "teacher" / "sentencepiece.model"),
        *("--target-dictionary", tmp_path / "own.txt"),
    )
    assert code == 0
    assert (output / "dict.de.txt").read_text("utf-8").splitlines() == own
    assert (output / "dict.en.txt").read_text("utf-8").splitlines() == own[::-1]
    assert decoded(output, "train", "de") == normalised(sentences("train", "de"))


def test_a_dictionary_without_its_model_is_refused(run, plain, tmp_path):
    write_lines(tmp_path / "dict.txt", ["a 1"])
    for side in ("source", "target"):
        code, _, error = run(plain, f"--{side}-dictionary", tmp_path / "dict.txt")
        assert code == 1
        assert f"--{side}-dictionary goes with the sentencepiece model" in error


def test_model_and_size_exclude_each_other(run, plain, capsys):
    with pytest.raises(SystemExit):
        run(plain, "--sentencepiece", "m.model", "--vocab-size", "100")
    assert "not allowed with argument" in capsys.readouterr().err


# Errors, all at once


def test_everything_wrong_is_reported_before_anything_is_written(run, plain, output, tmp_path):
    write_lines(plain / "text" / "train.de", sentences("train", "de")[:-1])
    write_lines(plain / "text" / "val.images", ["spaces "] * LINES["val"])
    (plain / "text" / "test_2016_flickr.en").write_bytes("Käse\n".encode("latin-1") * 4)
    write_lines(plain / "text" / "test_2017_flickr.images", ["a.jpg"])
    for lang in ("en", "de", "images"):
        write_lines(plain / "text" / f"test_heldout.{lang}", [])
    (tmp_path / "bad.model").write_bytes(b"no model")
    write_lines(tmp_path / "bad.txt", ["one two three"])
    code, _, error = run(
        plain,
        *("--sentencepiece", tmp_path / "bad.model", "--source-dictionary", tmp_path / "bad.txt"),
        *("--target-dictionary", tmp_path / "lost.txt", "--subset", "99"),
    )
    assert code == 1
    text = plain / "text"
    for message in (
        f"the lines of train do not belong together: {text / 'train.en'} has 40, "
        f"{text / 'train.de'} has 39, {text / 'train.images'} has 40",
        "val.images, line 1: 'spaces ' has spaces around the id",
        "test_2016_flickr.en cannot be read: 'utf-8' codec",
        "the lines of test_2017_flickr do not belong together",
        "test_heldout has no lines",
        "bad.model is not a sentencepiece model",
        "bad.txt is not a fairseq dictionary",
        "--target-dictionary",
        "lost.txt cannot be read: No such file",
    ):
        assert message in error
    assert all(line.startswith("error: ") for line in error.splitlines() if line[:1].isalpha())
    assert not output.parent.exists()


def test_two_same_languages_are_refused(run, plain):
    assert "error: --source and --target are both de" in run(plain, languages=("de", "de"))[2]


def test_a_folder_that_is_no_release_is_refused(run, tmp_path):
    code, _, error = run(tmp_path)
    assert code == 1
    assert (
        f"{tmp_path} is no Multi30k: there is neither text/ nor raw/ nor data/task1/raw/" in error
    )


def test_a_release_without_training_text_is_refused(run, plain):
    assert "has no train.fr and no train.cs" in run(plain, languages=("fr", "cs"))[2]


def test_a_damaged_archive_is_named(run, official):
    path = official / "data" / "task1" / "raw" / "val.de.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert "val.de.gz cannot be read: " in run(official)[2]


def test_lost_sentences_are_noticed(prepare_multi30k, run, plain, output, monkeypatch):
    write = prepare_multi30k._write_pieces

    def lossy(path, lines, model):
        lengths = write(path, lines, model)
        if path.name == "valid.de":
            path.write_text("".join(path.read_text("utf-8").splitlines(True)[1:]), "utf-8")
        return lengths

    monkeypatch.setattr(prepare_multi30k, "_write_pieces", lossy)
    code, _, error = run(plain)
    assert code == 1
    assert "valid.en-de.de: fairseq-preprocess made 5 sentences of" in error
    assert not output.exists()


# Again


def test_a_second_run_does_nothing(run, plain, output):
    run(plain)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    code, said, _ = run(plain)
    assert code == 0
    assert "is already prepared from this. Nothing to do." in said
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_other_input_is_not_written_over(run, plain, output):
    run(plain)
    before = (output / "dict.en.txt").read_bytes()
    code, _, error = run(plain, "--vocab-size", "60")
    assert code == 1
    assert f"{output} was prepared from something else (other vocab_size)" in error
    write_lines(plain / "text" / "val.images", image_ids("val")[::-1])
    assert "(other inputs_sha256)" in run(plain)[2]
    assert (output / "dict.en.txt").read_bytes() == before


def test_overwriting_leaves_nothing_of_the_old(run, plain, output):
    run(plain)
    (output / "notes.txt").write_text("mine")
    (plain / "text" / "val_images.de").unlink()
    assert run(plain, "--overwrite", "--vocab-size", "60")[0] == 0
    assert not list(output.glob("valid1.*"))
    assert (output / "notes.txt").exists()
    assert json.loads((output / "settings.json").read_text("utf-8"))["vocab_size"] == 60
    assert len(np.loadtxt(output / "splits.tsv", dtype=str, delimiter="\t")) == 7


def test_a_folder_of_something_else_is_kept(run, plain, output):
    output.mkdir(parents=True)
    assert run(plain)[0] == 0  # empty: fine
    (output / "settings.json").unlink()  # as if it had been killed while it moved the files
    code, _, error = run(plain)
    assert code == 1
    assert f"{output} is not empty and was not finished by this script" in error
    assert run(plain, "--overwrite")[0] == 0


def test_a_file_as_output_is_refused(run, plain, output):
    write_lines(output, [])
    assert "is a file; give a folder" in run(plain)[2]


def test_what_a_killed_run_left_is_cleared(run, plain, output):
    write_lines(output.with_name("en-de.partial") / "pieces" / "train.en", ["old"])
    assert run(plain)[0] == 0
    assert not output.with_name("en-de.partial").exists()
