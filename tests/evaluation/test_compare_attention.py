"""python -m caf_dkd_plugin compare-attention"""

import json
import shlex

import pytest
import torch
from fairseq import checkpoint_utils

from caf_dkd_plugin.__main__ import main
from caf_dkd_plugin.checkpoints.load import load_checkpoint
from caf_dkd_plugin.evaluation.compare_attention import compare, load

TRANSFORMER = shlex.split(
    "--arch cross_modal_transformer_tiny --encoder-layers 1 --decoder-layers 2 "
    "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2"
)


@pytest.fixture
def run(data_bin, tmp_path, capsys):
    """A function that runs the command: (teacher, paths, *options) -> the figures of each model, and what is
    printed; or the errors where it fails."""

    def run(teacher, paths, *options, data=data_bin):
        words = [
            data,
            "--teacher-path",
            teacher,
            "--path",
            *paths,
            "--gen-subset",
            "test",
            *options,
        ]
        output = tmp_path / "figures.json"
        code = main(["compare-attention", *map(str, [*words, "--json", output])])
        out, err = capsys.readouterr()
        if code:
            assert not output.exists()
            return [line[7:] for line in err.splitlines() if line.startswith("error: ")]
        return json.loads(output.read_text())["models"], out

    return run


@pytest.fixture(scope="module")
def text_only(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("text"), *TRANSFORMER).last


def test_a_model_looks_where_it_looks_itself(run, teacher, store, corpus, data_bin):
    found, out = run(teacher.best, [teacher.best], "--image-h5", store)
    sentences = (corpus / "text" / "test.en").read_text().splitlines()
    images = (data_bin / "test.images").read_text().splitlines()
    with_image = [line for line, image in zip(sentences, images) if image]
    tokens = sum(len(line.split()) + 1 for line in with_image)  # with the end of the sentence
    assert found[str(teacher.best)]["fusion"]["queries"] == tokens
    assert set(found[str(teacher.best)]) == {"cross", "fusion"}
    for each in found[str(teacher.best)].values():
        assert each["nats"] == pytest.approx(0, abs=1e-6)
        assert each["same_key"] == 1
    assert "fusion       0.000 nats a query, 100.0% most to the same key" in out
    assert f"{teacher.best} (the teacher): {len(with_image)} of them with an image" in out


def test_images_are_counted_for_each_model(run, teacher, text_only, write_store, store, tmp_path):
    """A teacher that reads none does not hide that a student had next to none."""
    one = write_store(tmp_path / "one.h5", ["test_00000.png"])
    _, out = run(text_only, [teacher.best, text_only], "--image-h5", one)
    assert f"{text_only} (the teacher): reads text only" in out
    assert f"{teacher.best}: 1 of them with an image" in out


def test_sentences_that_are_too_long_are_told_before_anything_is_computed(run, text_only):
    [error, *_] = run(text_only, [text_only], "--max-tokens", 5)
    assert error.startswith(f"{text_only}: --max-tokens 5: a sentence of test has ")


def maps_by_hand(checkpoint, data, family="cross", **overrides):
    """Of each sentence of the test set its own mini-batch: the mean map of a family (X, K)."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], {"data": str(data), "image_missing": "mask", **overrides}
    )
    task.load_dataset("test")
    pairs = task.dataset("test")
    return [mean_map(models[0].eval(), pairs, place, family) for place in range(len(pairs))]


@torch.no_grad()
def mean_map(model, pairs, place, family):
    """(X, K)"""
    batch = pairs.collater([pairs[place]])
    _, extra = model(**batch["net_input"], need_maps=True)
    return extra["maps"][family][0].mean(dim=0)


def figures_by_hand(expected, own):
    """(nats a query, share with the same key, queries) of the maps of all sentences."""
    nats, same, queries = 0.0, 0, 0
    for maps, others in zip(expected, own):
        for row, other in zip(maps.tolist(), others.tolist()):
            nats += sum(p * torch.tensor(p / q).log().item() for p, q in zip(row, other))
            same += row.index(max(row)) == other.index(max(other))
            queries += 1
    return nats / queries, same / queries, queries


@pytest.mark.parametrize("max_tokens", [4000, 60])
def test_figures_are_the_formula_however_sentences_are_batched(
    run, teacher, text_only, store, data_bin, max_tokens
):
    options = ("--image-h5", store, "--max-tokens", max_tokens)
    found, _ = run(teacher.best, [text_only, teacher.best], *options)
    assert list(found) == [str(text_only), str(teacher.best)]
    assert set(found[str(text_only)]) == {"cross"}  # the text-only one has no fusion
    nats, same, queries = figures_by_hand(
        maps_by_hand(teacher.best, data_bin, image_h5=str(store)),
        maps_by_hand(text_only, data_bin),
    )
    cross = found[str(text_only)]["cross"]
    assert cross["queries"] == queries
    assert cross["nats"] == pytest.approx(nats, rel=1e-4)
    assert cross["nats"] > 0.01
    assert cross["same_key"] == pytest.approx(same)


def test_the_regions_that_two_models_look_at(run, teacher, student, store, data_bin):
    """Sentences without an image have nothing to look at, and do not count."""
    found, _ = run(teacher.best, [student.last], "--image-h5", store)
    images = (data_bin / "test.images").read_text().splitlines()
    with_image = [number for number, image in enumerate(images) if image]
    assert 0 < len(with_image) < len(images)
    maps = [
        maps_by_hand(path, data_bin, "fusion", image_h5=str(store))
        for path in (teacher.best, student.last)
    ]
    nats, same, queries = figures_by_hand(
        *([each[number] for number in with_image] for each in maps)
    )
    fusion = found[str(student.last)]["fusion"]
    assert fusion["queries"] == queries
    assert fusion["nats"] == pytest.approx(nats, rel=1e-4)
    assert fusion["nats"] > 0.001
    assert fusion["same_key"] == pytest.approx(same)


def test_other_regions_of_the_images_are_refused(
    teacher, student, store, data_bin, corpus, write_store, tmp_path
):
    """As of two backbones that read the same photographs."""
    ids = sorted(path.name for path in (corpus / "images").iterdir())
    other = write_store(tmp_path / "other.h5", ids, regions=3)
    cpu = torch.device("cpu")
    one = load(str(teacher.best), str(data_bin), "test", str(store), cpu)
    two = load(str(student.last), str(data_bin), "test", str(other), cpu)
    with pytest.raises(ValueError, match=r"fusion: .* attends to 4 regions, .* to 3; compare"):
        compare(one, two, 4000)


def test_padding_of_every_sentence_changes_nothing(run, teacher, store, tmp_path):
    """What is written into a checkpoint by a training for a TPU."""
    state = load_checkpoint(teacher.best)
    state["cfg"]["task"]["required_seq_len_multiple"] = 8
    torch.save(state, tmp_path / "padded.pt")
    found, _ = run(teacher.best, [tmp_path / "padded.pt"], "--image-h5", store)
    for figures in found[str(tmp_path / "padded.pt")].values():
        assert figures["same_key"] == 1


def test_a_store_without_their_images_is_refused(run, teacher, write_store, tmp_path):
    other = write_store(tmp_path / "other.h5", ["another.png"])
    [error] = run(teacher.best, [teacher.best], "--image-h5", other)
    assert error == (
        f"{teacher.best} reads images, and {other} has that of none of the 22 sentences of test"
    )


def test_what_cannot_be_compared(run, teacher, text_only, stock_options, train, store, tmp_path):
    stock = train(tmp_path / "stock", *stock_options["transformer"]).last
    errors = run(teacher.best, [f"{text_only}:{text_only}", stock, tmp_path / "none.pt"])
    assert errors == [
        f"{teacher.best} reads images: give their store with --image-h5",
        f"{text_only}:{text_only} is 2 models: compare one at a time",
        f"{stock} does not tell its attention: only a cross_modal_rnn and a cross_modal_transformer do",
        f"{tmp_path / 'none.pt'} does not exist",
    ]
