import pytest
from torch import nn

from caf_dkd_plugin.trained_models import load_models


def test_models_come_in_the_order_of_their_files(teacher, student, data_bin, store):
    paths = [teacher.best, student.best]
    models, task = load_models(":".join(map(str, paths)), data_bin, store)
    assert [has_lstm(model) for model in models] == [False, True]
    assert task.image_store().path == str(store)


def test_without_a_store_sentences_may_go_without_images(teacher):
    _, task = load_models(teacher.best)
    assert task.image_store() is None
    assert task.trained_images


def test_every_file_that_is_no_checkpoint_is_named(teacher, tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    paths = (tmp_path / "none.pt", teacher.best, tmp_path / "text.pt")
    with pytest.raises(ValueError, match=r"none\.pt does not exist\n.*text\.pt is no checkpoint"):
        load_models(":".join(map(str, paths)))


def test_a_store_must_be_of_the_trainings_kind(teacher, write_store, tmp_path):
    other = write_store(tmp_path / "other.h5", ["a.png"], size=6)
    with pytest.raises(
        ValueError, match=r"of size 8, but .*other\.h5 has image features of size 6"
    ):
        load_models(teacher.best, image_h5=other)


def test_another_task_is_refused(stock):
    with pytest.raises(ValueError, match="was trained with the task translation, not with"):
        load_models(stock("lstm").last)


def test_a_model_that_cannot_be_given_images_beside_one_that_reads_them(
    train, teacher, stock_options, tmp_path
):
    theirs = train(tmp_path, *stock_options["transformer"]).last
    for paths in ((teacher.best, theirs), (theirs, teacher.best)):
        with pytest.raises(ValueError, match=f"{theirs}: an architecture that knows no images"):
            load_models(":".join(map(str, paths)))
    assert len(load_models(f"{theirs}:{train(tmp_path / 'ours').last}")[0]) == 2


def has_lstm(model):
    return any(isinstance(module, (nn.LSTM, nn.LSTMCell)) for module in model.modules())
