"""The real script on small texts: what is masked, what stays, what is written, every error message."""

import errno
import json
import os
import re
from pathlib import Path

import pytest
import sentencepiece
from text_lines import read_lines, write_lines

from caf_dkd_plugin.data import one_writer
from caf_dkd_plugin.evaluation.masked_words import read_masked_words, right_words

SENTENCES = {
    "en": [
        "A red van and a Red bike.",
        "Blue-eyed, the redhead's dog barks at \u2028black-and-white\u00a0cows!",
        "",
        "Reddish? No: infrared tans, cafés and a green\ttree. ",
        "Two girls in yellow.",
    ],
    "de": [
        "Ein rotes Auto und ein Fahrrad.",
        "Der blauäugige Hund bellt die schwarzweißen Kühe an!",
        "",
        "Ein grüner Baum.",
        "Zwei Mädchen in Gelb.",
    ],
    "fr": ["rouge", "bleu", "", "vert", "jaune"],
}
MASKED = ["red", "Red", "Blue", "redhead", "black", "white", "Reddish", "green", "yellow"]
IMAGES = ["1.jpg", "2.jpg", "", "4.jpg", "5.jpg"]


@pytest.fixture
def root(tmp_path):
    """A Multi30k as text/SPLIT.LANG; its test split lacks French."""
    folder = tmp_path / "root"
    for split in ("train", "val", "test_2016_flickr"):
        for lang, lines in SENTENCES.items():
            if (split, lang) != ("test_2016_flickr", "fr"):
                write_lines(folder / "text" / f"{split}.{lang}", lines)
        write_lines(folder / "text" / f"{split}.images", IMAGES)
    write_lines(folder / "images" / "1.jpg", [])
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "masked"


@pytest.fixture
def run(mask_source, output, capsys):
    """Run the script; its exit code, output and errors."""

    def run(*options, languages=("en", "de"), output=output):
        pair = ["--source", languages[0], "--target", languages[1]]
        code = mask_source.main([str(part) for part in [*options, *pair, "--output", output]])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def colours(mask_source, word_lists):
    """German by English, for mask_sentence."""
    concepts = word_lists.read_word_lists([word_lists.shipped_lists()["colours"]], ["en", "de"])
    return mask_source.translations(concepts, "en", "de")


class TestSentence:
    def test_masked_words_reinserted_give_the_original(self, mask_source, colours):
        for sentence in SENTENCES["en"]:
            masked, words = mask_source.mask_sentence(sentence, colours, "vvv")
            assert masked.count("vvv") == len(words)
            back = masked
            for word in words:
                back = back.replace("vvv", word.source, 1)
            assert back == sentence

    def test_the_words_of_the_list_and_no_others(self, mask_source, colours):
        masked = [mask_source.mask_sentence(line, colours, "vvv") for line in SENTENCES["en"]]
        assert [word.source for _, words in masked for word in words] == MASKED
        assert masked[1][0] == ("vvv-eyed, the vvv's dog barks at \u2028vvv-and-vvv\u00a0cows!")

    def test_masking_twice_changes_nothing(self, mask_source, colours):
        for sentence in SENTENCES["en"]:
            once, _ = mask_source.mask_sentence(sentence, colours, "vvv")
            assert mask_source.mask_sentence(once, colours, "vvv") == (once, [])

    def test_all_spellings_of_a_form(self, mask_source, word_lists):
        concepts = [{"de": ("weiß", "Junge"), "en": ("x",)}]
        words = mask_source.translations(concepts, "de", "en")
        text = "weiß Weiß WEISS weiss Junge JUNGE junge Jungen weißer"
        assert mask_source.mask_sentence(text, words, "v")[0] == "v v v v v v junge Jungen weißer"


class TestRoot:
    def test_only_the_source_changes(self, run, root, output):
        code, printed, _ = run("--root", root, "--mask", "colours")
        assert code == 0
        for split in ("train", "val", "test_2016_flickr"):
            masked = read_lines(output / "text" / f"{split}.en")
            assert len(masked) == len(SENTENCES["en"])
            assert sum(line.count("vvv") for line in masked) == len(MASKED)
            for lang in ("de", "fr"):
                before, after = (folder / "text" / f"{split}.{lang}" for folder in (root, output))
                assert before.exists() == after.exists()
                assert not after.exists() or before.read_bytes() == after.read_bytes()
            assert read_lines(output / "text" / f"{split}.images") == IMAGES
        assert (output / "images" / "1.jpg").is_file()
        assert "absent, left out: val_images (no en and no de)" in printed

    def test_masked_words_that_the_target_has_are_written(self, run, root, output):
        run("--root", root, "--mask", "colours")
        masked = read_masked_words(output / "text" / "val.masked.jsonl", 5)
        # one of two reds: the reference says it once
        sources = [[word.source for word in words] for words in masked]
        assert sources == [["red"], ["Blue", "black"], [], ["green"], ["yellow"]]
        assert all(map(all, right_words(SENTENCES["de"], masked)))

    def test_the_tables(self, run, root, output):
        _, printed, _ = run("--root", root, "--mask", "colours")
        header, *rows = read_lines(output / "splits.tsv")
        assert header.split("\t") == [
            "split", "lines", "masked_lines", "masked_words", "scorable_words", "percent",
        ]  # fmt: skip
        assert rows[0].split("\t") == ["train", "5", "4", "9", "5", "55.6"]
        assert re.search(r"^train +5 +4 +9 +5 +55.6$", printed, re.MULTILINE)
        concepts = dict(row.split("\t", 1) for row in read_lines(output / "concepts.tsv"))
        assert concepts["red"] == "rot\t12\t3\t25.0"
        assert concepts["pink"] == "rosa\t0\t0\t-"

    def test_the_official_layout(self, run, tmp_path, output):
        task = tmp_path / "official" / "data" / "task1"
        for lang in ("en", "de"):
            write_lines(task / "raw" / f"train.{lang}.gz", SENTENCES[lang])
        write_lines(task / "image_splits" / "train.txt", [f"{name}#3" for name in IMAGES])
        assert run("--root", tmp_path / "official", "--mask", "colours")[0] == 0
        assert read_lines(output / "text" / "train.de") == SENTENCES["de"]
        assert read_lines(output / "text" / "train.images") == IMAGES
        assert not (output / "images").exists()

    def test_two_commands_lead_to_binarised_text(
        self, run, root, output, prepare_multi30k, tmp_path
    ):
        """And with a model that does not know the placeholder none of its pieces is unknown."""
        data = tmp_path / "data"
        run("--root", root, "--mask", "colours")
        pair = ["--source", "en", "--target", "de"]
        for folder, made in ((root, tmp_path / "plain"), (output, data)):
            words = ["--root", folder, *pair, "--vocab-size", 90, "--output", made]
            assert prepare_multi30k.main([str(word) for word in words]) == 0
        model = sentencepiece.SentencePieceProcessor(model_file=str(data / "sentencepiece.model"))
        assert model.encode("a vvv van", out_type=str)[1] == "▁vvv"
        given = tmp_path / "given"
        words = ["--root", output, *pair, "--output", given]
        words += ["--sentencepiece", tmp_path / "plain" / "sentencepiece.model"]
        assert prepare_multi30k.main([str(word) for word in words]) == 0
        header, *rows = [row.split("\t") for row in read_lines(given / "splits.tsv")]
        assert {row[header.index("unknown_en")] for row in rows} == {"0"}


class TestOtherText:
    @pytest.fixture
    def texts(self, root):
        return [root / "text" / "train", root / "text" / "val"]

    def test_files_by_their_prefixes(self, run, texts, output):
        assert run("--text", *texts, "--mask", "colours")[0] == 0
        assert sum(line.count("vvv") for line in read_lines(output / "text" / "val.en")) == len(
            MASKED
        )
        assert read_lines(output / "text" / "train.de") == SENTENCES["de"]
        assert read_lines(output / "text" / "train.images") == IMAGES
        assert len(read_masked_words(output / "text" / "val.masked.jsonl", 5)[0]) == 1

    def test_a_list_of_ones_own_for_other_languages(self, run, tmp_path, output):
        write_lines(tmp_path / "a.it", ["Una barca rossa."])
        write_lines(tmp_path / "a.es", ["Un barco rojo."])
        write_lines(tmp_path / "mine.tsv", ["es\tit", "rojo roja\trosso rossa", "barco\tbarca"])
        options = [
            "--text",
            tmp_path / "a",
            "--words",
            tmp_path / "mine.tsv",
            "--placeholder",
            "[M]",
        ]
        code, _, errors = run(*options, languages=("it", "es"))
        assert code == 1
        assert errors == "error: --placeholder '[M]' is not one word of letters and digits\n"
        assert run(*options[:-1], "MASK", languages=("it", "es"))[0] == 0
        assert read_lines(output / "text" / "a.it") == ["Una MASK MASK."]
        assert json.loads(read_lines(output / "text" / "a.masked.jsonl")[0])["masked"] == [
            {"source": "barca", "target": ["barco"]},
            {"source": "rossa", "target": ["rojo", "roja"]},
        ]

    def test_lists_together(self, run, texts, output):
        run("--text", *texts, "--mask", "colours", "people")
        assert read_lines(output / "text" / "val.en")[4] == "Two vvv in vvv."

    def test_what_does_not_belong_together(self, run, root, texts):
        write_lines(root / "text" / "train.de", SENTENCES["de"][1:])
        write_lines(root / "other" / "val.en", [])
        code, _, errors = run("--text", *texts, root / "other" / "val", "--mask", "colours")
        assert code == 1
        assert f"{root / 'text' / 'train.en'} has 5, {root / 'text' / 'train.de'} has 4" in errors
        assert f"{root / 'other' / 'val.de'} cannot be read" in errors
        assert "--text names two files val; rename one of them" in errors


class TestPictures:
    def test_the_link_is_there_before_the_folder_counts_as_finished(
        self, run, root, output, finished_folder, monkeypatch
    ):
        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(finished_folder, "_move", killed)
            with pytest.raises(KeyboardInterrupt):
                run("--root", root, "--mask", "colours")
        partial = output.with_name("masked.partial")
        assert (partial / "images").readlink() == root / "images"
        assert run("--root", root, "--mask", "colours")[0] == 0
        assert (output / "images").readlink() == root / "images"
        assert "images" in json.loads((output / "settings.json").read_text())["files"]
        assert not partial.exists()

    def test_the_link_goes_with_the_text_that_it_belongs_to(self, run, root, output):
        run("--root", root, "--mask", "colours")
        options = ("--text", root / "text" / "train", "--mask", "colours", "--overwrite")
        assert run(*options)[0] == 0
        assert not (output / "images").is_symlink()
        assert (root / "images" / "1.jpg").is_file()

    def test_a_folder_of_photographs_stays(self, run, root, output):
        (output / "images").mkdir(parents=True)
        (output / "images" / "own.jpg").touch()
        assert run("--root", root, "--mask", "colours", "--overwrite")[0] == 0
        assert (output / "images" / "own.jpg").is_file()
        assert run("--root", root, "--mask", "people", "--overwrite")[0] == 0
        assert (output / "images" / "own.jpg").is_file()


class TestOnceMore:
    def test_the_same_again_is_nothing_to_do(self, run, root, output):
        run("--root", root, "--mask", "colours")
        before = (output / "text" / "train.en").stat().st_mtime_ns
        code, printed, _ = run("--root", root, "--mask", "colours")
        assert (code, printed) == (0, f"{output} is already masked like this. Nothing to do.\n")
        assert (output / "text" / "train.en").stat().st_mtime_ns == before

    def test_something_else_wants_overwrite(self, run, root, output):
        run("--root", root, "--mask", "colours")
        code, _, errors = run("--root", root, "--mask", "people")
        assert code == 1
        assert "was prepared from something else (other inputs_sha256)" in errors
        assert run("--root", root, "--mask", "people", "--overwrite")[0] == 0
        assert read_lines(output / "text" / "train.en")[4] == "Two vvv in yellow."

    @pytest.mark.parametrize("fails", ["replace", "write_text"])
    def test_what_cannot_be_put_in_place_leaves_the_earlier_files(
        self, run, root, output, monkeypatch, fails
    ):
        """On another file system; on a disk that is full when the record is written."""
        run("--root", root, "--mask", "colours")
        write_text = Path.write_text

        def replace(path, target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        def write(path, *arguments):
            if path.name == "settings.json":
                path.touch()
                raise OSError(errno.ENOSPC, "No space left on device")
            return write_text(path, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Path, fails, {"replace": replace, "write_text": write}[fails])
            code, _, errors = run("--root", root, "--mask", "people", "--overwrite")
        assert code == 1
        assert errors.endswith(". Give another place.\n")
        assert read_lines(output / "text" / "train.en")[4] == "Two girls in vvv."
        assert "Nothing to do" in run("--root", root, "--mask", "colours")[1]

    @pytest.mark.parametrize("record", [b"", b"\xff", b"[]", b"{}", b'{"files": {"exclude": []}}'])
    def test_a_record_of_others_or_cut_short_is_none(self, run, root, output, record):
        output.mkdir()
        (output / "settings.json").write_bytes(record)
        code, _, errors = run("--root", root, "--mask", "colours")
        assert code == 1
        assert f"{output} is not empty and was not finished by this script" in errors
        assert run("--root", root, "--mask", "colours", "--overwrite")[0] == 0
        assert "Nothing to do" in run("--root", root, "--mask", "colours")[1]

    def test_text_that_is_masked_already_is_refused(self, run, root, output, tmp_path):
        run("--root", root, "--mask", "colours")
        code, _, errors = run("--root", output, "--mask", "people", output=tmp_path / "again")
        assert code == 1
        assert "--placeholder vvv is a word of 4 lines of train in en, first of line 1." in errors
        assert "Mask the original, with all lists at once" in errors


class TestOtherFileSystems:
    @pytest.mark.parametrize("exists", [True, False])
    def test_an_output_that_is_a_link(self, run, root, output, tmp_path, monkeypatch, exists):
        """Nothing can be renamed into what it links to but what is there already."""
        disk = tmp_path / "disk"
        (disk / "folder" if exists else disk).mkdir(parents=True)
        output.symlink_to(disk / "folder")
        rename = Path.replace

        def is_there(path):
            return disk in (path.parent.resolve() / path.name).parents

        def replace(path, target):
            if is_there(path) != is_there(target):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", replace)
        assert run("--root", root, "--mask", "colours")[0] == 0
        assert output.is_symlink()
        assert read_lines(disk / "folder" / "text" / "train.en")[4] == "Two girls in vvv."
        assert [path.name for path in disk.iterdir()] == ["folder"]

    def test_a_mount_point_is_refused_before_the_work(self, run, root, output, monkeypatch):
        output.mkdir()
        monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(output))
        code, _, errors = run("--root", root, "--mask", "colours")
        assert code == 1
        assert errors.startswith(f"error: --output {output} is a mount point: ")
        assert errors.endswith(" Give a folder in it.\n")
        assert run("--root", root, "--mask", "colours", output=output / "in")[0] == 0


class TestNothingIsLost:
    @pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
    def test_text_is_not_written_over_what_it_is_made_of(self, run, root, overwrite):
        given = (("--root", root), ("--text", root / "text" / "train"))
        for options in given:
            code, _, errors = run(*options, "--mask", "colours", *overwrite, output=root)
            assert code == 1
            assert f"--output {root}: text is read in {root / 'text'}, which this would" in errors
        assert read_lines(root / "text" / "train.en") == SENTENCES["en"]

    def test_a_file_that_is_lost_is_noticed(self, run, root, output):
        run("--root", root, "--mask", "colours")
        (output / "text" / "val.de").unlink()
        code, _, errors = run("--root", root, "--mask", "colours")
        assert code == 1
        assert "has lost 1 of its files: text/val.de. Make it again with --overwrite" in errors
        assert run("--root", root, "--mask", "colours", "--overwrite")[0] == 0
        assert "Nothing to do" in run("--root", root, "--mask", "colours")[1]

    def test_two_do_not_make_one_folder(self, run, root, output, monkeypatch):
        def taken(*_):
            raise BlockingIOError

        with monkeypatch.context() as patched:
            patched.setattr(one_writer.fcntl, "lockf", taken)
            code, _, errors = run("--root", root, "--mask", "colours")
        assert code == 1
        assert f"another process is writing {output}. Wait until it has finished" in errors
        assert run("--root", root, "--mask", "colours")[0] == 0
        assert not list(output.parent.glob("masked.*"))


class TestCommandLine:
    def test_all_problems_at_once(self, run, root, tmp_path):
        code, _, errors = run("--root", tmp_path, "--placeholder", "a b", languages=("en", "en"))
        assert code == 1
        assert errors.splitlines()[:3] == [
            "error: --source and --target are both en",
            "error: nothing to mask: give --mask NAME or --words FILE",
            "error: --placeholder 'a b' is not one word of letters and digits",
        ]
        assert errors.count("\n") == 4
        assert f"error: {tmp_path} is no Multi30k" in errors

    def test_a_language_that_a_list_lacks(self, run, root):
        code, _, errors = run("--root", root, "--mask", "colours", languages=("en", "it"))
        assert code == 1
        assert "colours.tsv has no column it; its first line names en, de, fr, cs" in errors
        assert "has no train.it" in errors

    def test_a_placeholder_that_is_a_word_of_the_lists(self, run, root):
        code, _, errors = run("--root", root, "--mask", "colours", "--placeholder", "Purple")
        assert code == 1
        assert errors == "error: --placeholder Purple is a word of the lists; choose another\n"

    def test_empty_text(self, run, tmp_path, output):
        for lang in ("en", "de"):
            (tmp_path / f"none.{lang}").touch()
        code, _, errors = run("--text", tmp_path / "none", "--mask", "colours")
        assert (code, output.exists()) == (1, False)
        assert errors == "error: none has no lines in en; there is nothing to mask\n"

    @pytest.mark.parametrize("options", [(), ("--overwrite",)])
    def test_an_output_that_cannot_be_written(self, run, root, tmp_path, options):
        file = tmp_path / "file"
        file.write_text("text")
        code, _, errors = run("--root", root, "--mask", "colours", *options, output=file)
        assert (code, errors) == (1, f"error: --output {file} is a file; give a folder\n")
        code, _, errors = run("--root", root, "--mask", "colours", *options, output=file / "x")
        assert code == 1
        assert errors.startswith(f"error: --output {file / 'x'} cannot be written: ")
        assert "Not a directory" in errors

    def test_text_from_one_place(self, run, root, capsys):
        with pytest.raises(SystemExit):
            run("--mask", "colours")
        assert "one of the arguments --root --text is required" in capsys.readouterr().err
