"""The real script on tiny releases of both layouts: what it writes, and every error message."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from fairseq.data import Dictionary, data_utils
from text_lines import write_lines

from caf_dkd_plugin.data.image_ids import read_image_ids

NOUNS = ["bat", "crane", "seal", "nail", "bow", "trunk", "match", "palm"]
GERMAN = ["Fledermaus", "Kran", "Robbe", "Nagel", "Schleife", "Koffer", "Spiel", "Palme"]
FRENCH = ["chauve-souris", "grue", "phoque", "clou", "nœud", "malle", "allumette", "palmier"]
LINES = {
    "train": 40,
    "val": 6,
    "val_images": 5,
    "test_2016_flickr": 4,
    "test_2017_flickr": 3,
    "test_2017_mscoco": 2,
    "test_heldout": 7,
    "test_2018_flickr": 3,
}


def sentences(split, lang):
    """The lines of a split; the train split has an empty one and odd characters inside lines."""
    nouns, frame = {
        "en": (NOUNS, "A {} lies beside {}."),
        "de": (GERMAN, "{} liegt neben {}."),
        "fr": (FRENCH, "Voilà {} près de {}."),
        "cs": (NOUNS, "{} u {}."),
    }[lang]
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
def related(plain):
    """The same with French, which the sets of 2017 lack."""
    for split in LINES:
        if "2017" not in split:
            write_lines(plain / "text" / f"{split}.fr", sentences(split, "fr"))
    return plain


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
    "test_2018_flickr": "test4",
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


def test_text_of_no_known_split_is_said_to_be_left_out(run, official):
    raw = official / "data" / "task1" / "raw"
    for name in ("valid.en.gz", "test.de", "test.en", "other.fr", "notes.txt", ".train.en"):
        write_lines(raw / name, ["text"])
    code, said, _ = run(official)
    assert code == 0
    names = ", ".join(LINES)
    assert f"left out, since no split is called so: test, valid. The names are {names}.\n" in said


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


def test_a_byte_order_mark_is_no_text(run, plain, output):
    for name, content in (("train.en", sentences("train", "en")), ("val.images", image_ids("val"))):
        write_lines(plain / "text" / name, [f"\ufeff{content[0]}", *content[1:]])
    assert run(plain)[0] == 0
    raw = (output / "text" / "train.en").read_bytes().decode("utf-8")
    assert raw == "".join(f"{line}\n" for line in sentences("train", "en"))
    assert read_image_ids(output / "valid.images") == image_ids("val")


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
    assert str(prepare_multi30k.default_vocab_size(pairs)) == str(size)  # 1100.0 would not do


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


# The side of a teacher of a related pair


def test_a_side_is_in_step_with_its_split(run, related, output):
    code, said, _ = run(related, "--teacher-source", "fr")
    assert code == 0
    for split, prefix in PREFIXES.items():
        if "2017" in split:
            continue
        lines = sentences(split, "fr")
        assert decoded(output, prefix, "fr") == normalised(lines), split
        raw = (output / "text" / f"{prefix}.fr").read_bytes().decode("utf-8")
        assert raw == "".join(f"{line}\n" for line in lines)
    rows = [line.split("\t") for line in (output / "splits.tsv").read_text("utf-8").splitlines()]
    assert [row[-1] for row in rows] == ["unknown_fr", "0", "0", "0", "0", "-", "-", "0", "0"]
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == ["text"]
    assert "--ignore-unused-valid-subsets" in said


def test_a_split_without_the_language_keeps_its_pair(run, related, output):
    _, said, _ = run(related, "--teacher-source", "fr")
    for split in ("test_2017_flickr", "test_2017_mscoco"):
        prefix = PREFIXES[split]
        assert f"{split} has no fr, so {prefix} is without the side that a teacher of fr" in said
        assert decoded(output, prefix, "de") == sentences(split, "de")
        assert not list(output.rglob(f"{prefix}.*fr*"))


def test_a_split_is_left_out_only_for_a_language_of_the_pair(run, related):
    (related / "text" / "test_2017_flickr.en").unlink()
    _, said, _ = run(related, "--teacher-source", "fr")
    assert "absent, left out: test_2017_flickr (no en)\n" in said
    assert "test_2017_flickr has no fr" not in said


def test_a_side_follows_the_subset(run, related, output, tmp_path):
    chosen = [30, 2, 8, 17]
    write_lines(tmp_path / "few.lines", chosen)
    run(related, "--subset", tmp_path / "few.lines", "--teacher-source", "fr")
    for lang in ("en", "de", "fr"):
        expected = [sentences("train", lang)[number] for number in chosen]
        assert decoded(output, "train", lang) == normalised(expected)
    assert len(decoded(output, "test3", "fr")) == LINES["test_heldout"]


def test_a_side_leaves_the_rest_as_it_was(run, related, output, tmp_path):
    """With the same model: the text, the images and the binarised pair."""
    run(related, output=tmp_path / "model")
    options = ("--sentencepiece", tmp_path / "model" / "sentencepiece.model")
    run(related, *options, "--teacher-source", "fr")
    run(related, *options, output=tmp_path / "without")
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    for path in (tmp_path / "without").rglob("*"):
        name = str(path.relative_to(tmp_path / "without"))
        if path.is_file() and name not in ("splits.tsv", "settings.json"):
            assert path.read_bytes() == (output / name).read_bytes(), name
        names.discard(name)
    assert len(names) == 6 * 3 + 1  # of six splits the text, bin and idx; the dictionary
    assert all(".fr" in name for name in names)


def test_fairseq_still_sees_the_pair(run, related, output):
    run(related, "--teacher-source", "fr")
    assert data_utils.infer_language_pair(str(output)) == ["en", "de"]
    named = {path.name.split(".")[1] for path in output.iterdir() if "-" in path.name}
    assert named == {"en-de"}  # whichever file it happens to look at


def test_the_default_model_knows_all_languages_of_the_folder(run, related, output):
    run(related, "--teacher-source", "fr")
    dictionaries = {(output / f"dict.{lang}.txt").read_bytes() for lang in ("en", "de", "fr")}
    assert len(dictionaries) == 1
    assert "œ" in dictionaries.pop().decode("utf-8")


def test_one_model_serves_the_teacher_and_the_student(run, related, output, tmp_path):
    teacher = tmp_path / "teacher"
    trained = ("--sentencepiece-languages", "fr", "de", "en")
    code, _, _ = run(related, *trained, languages=("fr", "de"), output=teacher)
    assert code == 0
    assert not list(teacher.rglob("*.en*"))
    own = ("--sentencepiece", teacher / "sentencepiece.model", "--subset", "5")
    assert run(related, *own, "--teacher-source", "fr")[0] == 0
    for lang in ("fr", "de", "en"):
        joint = (teacher / "dict.de.txt").read_bytes()
        assert (output / f"dict.{lang}.txt").read_bytes() == joint
    for suffix in ("bin", "idx"):
        side = (output / f"valid.en-de.fr.{suffix}").read_bytes()
        assert side == (teacher / f"valid.fr-de.fr.{suffix}").read_bytes()
    assert decoded(output, "train", "fr") == normalised(sentences("train", "fr")[:5])
    rows = [line.split("\t") for line in (output / "splits.tsv").read_text("utf-8").splitlines()]
    assert rows[1][5:] == ["0", "0", "0"]  # unknown pieces of the training set


def test_the_subset_holds_for_all_that_the_model_is_trained_on(run, related, output):
    lines = sentences("train", "fr")
    write_lines(related / "text" / "train.fr", [*lines[:-1], "żółć"])
    run(related, "--subset", "39", "--sentencepiece-languages", "en", "de", "fr")
    pieces = set((output / "dict.en.txt").read_text("utf-8"))
    assert "œ" in pieces
    assert not set("żół") & pieces


def test_the_order_of_the_models_languages_does_not_matter(run, related, output):
    assert run(related, "--sentencepiece-languages", "fr", "en", "de")[0] == 0
    settings = json.loads((output / "settings.json").read_text("utf-8"))
    assert settings["sentencepiece_languages"] == ["en", "de", "fr"]
    assert "Nothing to do" in run(related, "--sentencepiece-languages", "de", "fr", "en")[1]


def test_naming_the_folders_own_languages_changes_nothing(run, related, output):
    run(related)
    assert "Nothing to do" in run(related, "--sentencepiece-languages", "de", "en")[1]
    assert "sentencepiece_languages" not in (output / "settings.json").read_text("utf-8")


def test_a_side_may_have_its_own_dictionary(run, related, output, tmp_path):
    run(related, "--teacher-source", "fr", output=tmp_path / "teacher")
    own = (tmp_path / "teacher" / "dict.fr.txt").read_text("utf-8").splitlines()[::-1]
    write_lines(tmp_path / "own.txt", own)
    code, _, _ = run(
        related,
        *("--teacher-source", "fr", "--teacher-source-dictionary", tmp_path / "own.txt"),
        *("--sentencepiece", tmp_path / "teacher" / "sentencepiece.model"),
    )
    assert code == 0
    assert (output / "dict.fr.txt").read_text("utf-8").splitlines() == own
    assert (output / "dict.de.txt").read_text("utf-8").splitlines() == own[::-1]
    assert decoded(output, "train", "fr") == normalised(sentences("train", "fr"))


def test_another_side_is_not_written_over(run, related, output):
    run(related, "--teacher-source", "fr")
    assert "Nothing to do" in run(related, "--teacher-source", "fr")[1]
    assert "(other inputs_sha256, teacher_source)" in run(related)[2]
    write_lines(related / "text" / "val.fr", sentences("val", "fr")[::-1])
    assert "(other inputs_sha256)" in run(related, "--teacher-source", "fr")[2]
    assert run(related, "--overwrite")[0] == 0
    assert not list(output.rglob("*.fr*"))


def test_another_training_of_the_model_is_not_written_over(run, related, output):
    trained = ("--sentencepiece-languages", "en", "de", "fr")
    run(related, *trained)
    assert "(other inputs_sha256, sentencepiece_languages)" in run(related)[2]
    write_lines(related / "text" / "train.fr", sentences("train", "fr")[::-1])
    assert "(other inputs_sha256)" in run(related, *trained)[2]


def test_the_training_set_must_have_every_language(run, plain, tmp_path):
    """All such errors come before anything is written, with the others."""
    code, _, error = run(
        plain,
        *("--teacher-source", "fr", "--subset", "0"),
        *("--teacher-source-dictionary", tmp_path / "lost.txt"),
        *("--sentencepiece", tmp_path / "lost.model"),
    )
    assert code == 1
    assert f"{plain / 'text'} has no train.fr; ask for other languages or add the text" in error
    assert "--teacher-source-dictionary" in error
    assert "lost.model cannot be read" in error
    trained = ("--sentencepiece-languages", "en", "de", "fr")
    assert f"{plain / 'text'} has no train.fr" in run(plain, *trained)[2]


def test_a_side_of_another_length_is_refused(run, related):
    write_lines(related / "text" / "val.fr", sentences("val", "fr")[:-1])
    _, _, error = run(related, "--teacher-source", "fr")
    assert "the lines of val do not belong together: " in error
    assert f"{related / 'text' / 'val.fr'} has 5" in error
    assert run(related)[0] == 0  # without the side they do


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--teacher-source en", "--teacher-source and --source are both en; it is for a third"),
        ("--teacher-source de", "--teacher-source and --target are both de; it is for a third"),
        (
            "--sentencepiece-languages en de fr --sentencepiece lost.model",
            "--sentencepiece gives one that is trained; leave one of them out",
        ),
        (
            "--sentencepiece-languages en --teacher-source fr",
            "--sentencepiece-languages leaves out de and fr, of which the folder has sentences",
        ),
        (
            "--teacher-source-dictionary lost.txt --sentencepiece lost.model",
            "--teacher-source-dictionary is of no use without --teacher-source; give both",
        ),
        (
            "--teacher-source fr --teacher-source-dictionary lost.txt",
            "--teacher-source-dictionary goes with the sentencepiece model that made its pieces",
        ),
    ],
)
def test_options_that_contradict_are_refused(run, related, output, options, message):
    code, _, error = run(related, *options.split())
    assert code == 1
    assert message in error
    assert not output.exists()


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
    assert "has no train.fr; ask for other" in run(plain, languages=("fr", "cs"))[2]
    (plain / "text" / "train.cs").unlink()
    assert "has no train.fr and no train.cs; ask for other" in run(plain, languages=("fr", "cs"))[2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: content[:10] + b"\xff" + content[11:],  # the first byte that is compressed
        lambda content: b"text",
    ],
)
def test_a_damaged_archive_is_named(run, official, damage):
    path = official / "data" / "task1" / "raw" / "val.de.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert "val.de.gz cannot be read: " in run(official)[2]


@pytest.mark.parametrize("name", ["text", "images"])
def test_a_folder_that_cannot_be_read_is_named_with_all_that_is_wrong(
    run, plain, output, monkeypatch, name
):
    listdir = os.listdir

    def closed(path):
        if Path(path) == plain / name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", closed)
    code, _, error = run(plain, "--sentencepiece", "lost.model")
    assert code == 1
    assert f"error: {plain / name} cannot be read: Permission denied\n" in error
    assert "lost.model cannot be read" in error
    assert not output.parent.exists()


def test_lost_sentences_are_noticed(binarised_text, run, plain, output, monkeypatch):
    write = binarised_text.write_pieces

    def lossy(path, lines, model):
        lengths = write(path, lines, model)
        if path.name == "valid.de":
            path.write_text("".join(path.read_text("utf-8").splitlines(True)[1:]), "utf-8")
        return lengths

    monkeypatch.setattr(binarised_text, "write_pieces", lossy)
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
    assert len(np.loadtxt(output / "splits.tsv", dtype=str, delimiter="\t")) == 8


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


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_an_output_that_cannot_be_written_is_named(run, plain, tmp_path, options):
    write_lines(tmp_path / "file", [])
    output = tmp_path / "file" / "x"
    code, _, error = run(plain, *options, output=output)
    assert code == 1
    assert error.startswith(f"error: --output {output} cannot be written: ")
    assert "Not a directory" in error
    assert error.count("\n") == 1


def test_the_release_is_not_written_over(run, plain):
    before = (plain / "text" / "train.en").read_bytes()
    for options in ((), ("--subset", "3", "--overwrite")):
        code, _, error = run(plain, *options, output=plain)
        assert code == 1
        assert f"--output {plain}: text is read in {plain / 'text'}, which this would" in error
    assert (plain / "text" / "train.en").read_bytes() == before


def test_ids_of_ones_own_lists_are_kept_as_they_are(run, plain, output):
    """Only the official lists name a caption after the picture."""
    ids = ["clip.mp4#t=1.jpg", "#3.jpg", "a.jpg#0", *image_ids("val")[3:]]
    write_lines(plain / "text" / "val.images", ids)
    assert run(plain)[0] == 0
    assert read_image_ids(output / "valid.images") == ids


def test_what_a_killed_run_left_is_cleared(run, plain, output):
    write_lines(output.with_name("en-de.partial") / "pieces" / "train.en", ["old"])
    assert run(plain)[0] == 0
    assert not output.with_name("en-de.partial").exists()
