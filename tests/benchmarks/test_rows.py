"""Rows, what is required of them, and their table."""

import json

import pytest


@pytest.fixture
def rows(benchmark):
    return benchmark("rows")


@pytest.fixture
def table(benchmark):
    return benchmark("table")


@pytest.fixture
def make(rows):
    """A function that makes a row: (ours, theirs, (bound, value) or None) -> Row."""

    def make(ours, theirs, required=None, **more):
        if required is not None:
            required = rows.Required(rows.Bound(required[0]), required[1])
        return rows.Row("how fast", "us", "them", "words/s", ours, theirs, required, **more)

    return make


def test_the_ratio_is_the_median_of_the_rounds(make):
    row = make([1.0, 2.0, 9.0], [1.0, 4.0, 3.0])  # ratio of the medians: 0.67
    assert row.by_round == [1.0, 0.5, 3.0]
    assert row.compared == 1.0
    assert row.spread == (0.5, 3.0)
    assert row.met is None


def test_a_round_that_one_side_lacks_is_refused(make):
    with pytest.raises(ValueError, match="shorter"):
        _ = make([1.0, 2.0], [1.0]).compared


@pytest.mark.parametrize(
    ("required", "ours", "met"),
    [
        (("at least", 1.5), 3.0, True),
        (("at least", 1.5), 2.9, False),
        (("at most", 1.5), 3.0, True),
        (("at most", 1.5), 3.1, False),
        (("at most more", 0.5), 2.5, True),
        (("at most more", 0.5), 2.6, False),
    ],
)
def test_requirements(make, table, required, ours, met):
    row = make([ours], [2.0], required)
    assert row.met is met
    assert (table.NOT_MET in table.markdown([row])) is not met


@pytest.mark.parametrize("required", [None, ("at least", 1.5), ("at most more", 0.5)])
def test_json_there_and_back(make, rows, required):
    row = make([1.0, 2.0], [2.0, 2.0], required, limit=[3.0, 3.0], note="of it")
    entry = json.loads(json.dumps(row.as_json()))
    assert rows.Row.from_json(entry) == row
    assert entry["compared"] == row.compared
    assert entry["met"] == row.met


def test_the_table_has_all_of_a_row(make, table):
    row = make([1000.0, 3000.0, 2000.0], [1000.0] * 3, ("at least", 1.5), limit=[5000.0] * 3)
    header, line, cells = table.markdown([row]).splitlines()
    assert len(header) == len(line) == len(cells)
    assert [cell.strip() for cell in cells.strip("|").split("|")] == [
        "how fast, words/s",
        "us: 2,000",
        "them: 1,000",
        f"2.00 {table.TIMES}",
        "1.00 to 3.00",
        f"≥ 1.50 {table.TIMES}",
        "5,000",
    ]


def test_a_difference_is_in_its_unit(make, table):
    text = table.markdown([make([2.75], [2.5], ("at most more", 0.5))])
    assert "+0.25 words/s" in text
    assert "≤ 0.50 words/s more" in text


def test_a_skipped_question_says_why(rows, table):
    text = table.markdown([rows.Skipped("training on a GPU", "there is none")])
    assert "- training on a GPU: not measured, there is none" in text


def test_versions_name_fairseq_and_torch(table):
    facts = table.versions()
    assert {"caf-dkd", "python", "torch", "numpy"} <= set(facts)
    assert len({"fairseq", "fairseq-fixed"} & set(facts)) == 1
