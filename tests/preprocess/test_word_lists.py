"""The lists of the repository, and every message about one that cannot be used."""

import itertools

import pytest

LANGUAGES = ["en", "de", "fr", "cs"]
NAMES = ["colours", "people", "nouns"]


@pytest.fixture
def write(tmp_path):
    """Write a list; its path."""
    numbers = itertools.count(1)

    def write(content):
        path = tmp_path / f"list{next(numbers)}.tsv"
        path.write_bytes(content.encode("utf-8"))
        return path

    return write


@pytest.fixture
def problems_of(word_lists):
    """What is wrong with lists, as a list of messages."""

    def problems_of(*paths, languages=("en", "de")):
        with pytest.raises(word_lists.PreparationError) as caught:
            word_lists.read_word_lists(paths, languages)
        return caught.value.problems

    return problems_of


def test_the_lists_of_the_repository_can_be_used_together(word_lists):
    # Reading refuses empty cells, missing columns and a form in two concepts or lists.
    shipped = word_lists.shipped_lists()
    assert set(shipped) == set(NAMES)
    assert word_lists.read_word_lists(shipped.values(), LANGUAGES)


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("colours", {"en": "grey", "de": "dunkelgraue", "fr": "grises", "cs": "šedého"}),
        ("colours", {"en": "white", "de": "weißes", "fr": "blanche", "cs": "bílou"}),
        ("people", {"en": "women", "de": "Frauen", "fr": "femmes", "cs": "ženami"}),
        ("people", {"en": "boy", "de": "Jungen", "fr": "garçon", "cs": "chlapcem"}),
        ("nouns", {"en": "dogs", "de": "Hunden", "fr": "chiens", "cs": "psovi"}),
    ],
)
def test_forms_of_a_concept_stand_in_one_line(word_lists, name, concept):
    concepts = word_lists.read_word_lists([word_lists.shipped_lists()[name]], LANGUAGES)
    found = [one for one in concepts if concept["en"] in one["en"]]
    assert len(found) == 1
    for lang, form in concept.items():
        assert form in found[0][lang]


def test_a_list_is_read_in_order_with_the_columns_it_names(word_lists, write):
    path = write("de\ten\nrot rote\tred\nJunge\tboy boys\n")
    assert word_lists.read_word_lists([path], ["en", "de"]) == [
        {"de": ("rot", "rote"), "en": ("red",)},
        {"de": ("Junge",), "en": ("boy", "boys")},
    ]


def test_all_problems_are_told_with_their_lines(problems_of, write):
    first = write("en\tde\nred\trot\nblue\t\ngreen grün\nRED\tweiß\n")
    second = write("en\tde\nlight-blue\thellblau\nwhite\tWEISS\n")
    messages = problems_of(first, second)
    assert messages == [
        f"{first}, line 3: no de word",
        f"{first}, line 4: 1 columns, but the first line names 2; they are separated by tabs",
        f"{first}, line 5: the en word 'RED' is there already, in {first}, line 2",
        f"{second}, line 2: 'light-blue' is no single word; in a text a hyphen or an apostrophe ends a "
        "word, so nothing would match it",
        f"{second}, line 3: the de word 'WEISS' is there already, in {first}, line 5",
    ]


def test_a_form_twice_in_a_line(problems_of, write):
    path = write("en\tde\nred red\trot\n")
    assert problems_of(path) == [
        f"{path}, line 2: the en word 'red' is there already, in {path}, line 2"
    ]


def test_a_form_with_a_capital_overlaps_one_without(problems_of, write):
    assert len(problems_of(write("en\tde\nboy\tJunge\nyoung\tjunge\n"))) == 1
    assert len(problems_of(write("en\tde\nyoung\tjunge\nboy\tJunge\n"))) == 1


def test_columns_and_files_that_are_not_there(problems_of, write, tmp_path):
    path, empty, bare = write("en\tfr\nred\trouge\n"), write(""), write("en\tde\n")
    messages = problems_of(path, empty, bare, tmp_path / "none.tsv")
    assert messages[0] == f"{path} has no column de; its first line names en, fr"
    assert messages[1] == f"{empty} has no column en and no column de; its first line names none"
    assert messages[2] == f"{empty} has no words below its first line"
    assert messages[3] == f"{bare} has no words below its first line"
    assert "none.tsv cannot be read" in messages[4]
    assert len(messages) == 5


def test_a_byte_order_mark_belongs_to_no_column(word_lists, write):
    path = write("\ufeffen\tde\nred\trot\n")
    assert word_lists.read_word_lists([path], ["en", "de"]) == [{"en": ("red",), "de": ("rot",)}]


def test_a_line_with_another_line_end(word_lists, write):
    path = write("en\tde\r\nred\trot\r\n")
    assert word_lists.read_word_lists([path], ["en", "de"]) == [{"en": ("red",), "de": ("rot",)}]
