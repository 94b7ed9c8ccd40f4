import dataclasses
import math
import shutil

import pytest
import torch
from fairseq import checkpoint_utils, tasks
from fairseq.data import data_utils
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks.translation import TranslationTask

from caf_dkd_plugin.data.image_store import ImageStore
from caf_dkd_plugin.distillation.teacher import (
    FrozenTeacher,
    Member,
    Student,
    TeacherError,
    asked,
    load_teacher,
)


@pytest.fixture(scope="session")
def task_and_batch(parse, store):
    """The student's task, and a mini-batch with images whose sentences differ in length."""
    task = tasks.setup_task(parse("--image-h5", store).task)
    task.load_dataset("train")
    pairs = task.dataset("train")
    return task, pairs.collater([pairs[index] for index in (0, 2, 3, 4, 5)])


@pytest.fixture
def student(task_and_batch, store):
    task, _ = task_and_batch
    return Student(
        source_lang="en",
        source_dictionary=task.source_dictionary,
        target_lang="de",
        target_dictionary=task.target_dictionary,
        max_positions=(1024, 1024),
        image_h5=str(store),
        images=ImageStore(store),
    )


def net_input_of(task_and_batch):
    return task_and_batch[1]["net_input"]


def load_as_fairseq(path):
    [model], _, _ = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    return model.eval()


def probabilities(model, net_input):
    with torch.no_grad():
        return torch.softmax(model(**net_input)[0].float(), dim=-1)


# -- what it says ---------------------------------------------------------------------------------


def test_it_says_what_the_model_says(teacher, student, task_and_batch):
    net_input = net_input_of(task_and_batch)
    log_probs = load_teacher(str(teacher.best), None, student).log_probs(net_input, torch.float32)
    expected = probabilities(load_as_fairseq(teacher.best), net_input)
    assert log_probs.shape == (
        *net_input["prev_output_tokens"].shape,
        len(student.target_dictionary),
    )
    torch.testing.assert_close(log_probs.exp(), expected)
    assert not log_probs.requires_grad


def test_it_looks_at_the_images(teacher, student, task_and_batch):
    net_input = net_input_of(task_and_batch)
    frozen = load_teacher(str(teacher.best), None, student)
    without = {**net_input, "image_mask": torch.zeros_like(net_input["image_mask"])}
    assert not torch.allclose(
        frozen.log_probs(net_input, torch.float32), frozen.log_probs(without, torch.float32)
    )


def test_several_are_averaged_in_probability(teacher, stock, student, task_and_batch):
    paths = [teacher.best, stock("transformer").last, stock("lstm").last]
    net_input = net_input_of(task_and_batch)
    text = {name: x for name, x in net_input.items() if not name.startswith("image")}
    expected = sum(
        probabilities(load_as_fairseq(path), inputs)
        for path, inputs in zip(paths, (net_input, text, text))
    )
    frozen = load_teacher(":".join(map(str, paths)), None, student)
    log_probs = frozen.log_probs(net_input, torch.float32)
    torch.testing.assert_close(log_probs.exp(), expected / 3)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_a_stock_model_teaches_from_the_students_batch(arch, stock, student, task_and_batch):
    """Its own training padded the source on the left; the student's batch does it on the right."""
    net_input = net_input_of(task_and_batch)
    frozen = load_teacher(str(stock(arch).last), None, student)
    log_probs = frozen.log_probs(net_input, torch.float32)
    pad = student.source_dictionary.pad()
    model = load_as_fairseq(stock(arch).last)
    for sentence, tokens in enumerate(net_input["src_tokens"]):
        alone = tokens[tokens != pad][None]
        previous = net_input["prev_output_tokens"][sentence][None]
        length = int((previous != pad).sum())
        single = {
            "src_tokens": alone,
            "src_lengths": torch.tensor([alone.shape[1]]),
            "prev_output_tokens": previous,
        }
        expected = probabilities(model, single)[0, :length]
        torch.testing.assert_close(log_probs[sentence, :length].exp(), expected)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_the_source_is_padded_as_the_teacher_was_trained(arch, stock, student, task_and_batch):
    """Stock fairseq pads it on the left; what a model gets is what its own collater would make."""
    seen = []
    frozen = load_teacher(str(stock(arch).last), None, student)
    [member] = frozen._members
    member.model.register_forward_pre_hook(
        lambda model, args, inputs: seen.append(inputs["src_tokens"]), with_kwargs=True
    )
    net_input = net_input_of(task_and_batch)
    frozen.log_probs(net_input, torch.float32)
    pad = student.source_dictionary.pad()
    rows = [row[row != pad] for row in net_input["src_tokens"]]
    assert torch.equal(seen[0], data_utils.collate_tokens(rows, pad, left_pad=True))
    assert member.left_pad_source


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_rows_in_any_order_get_their_own_answers(arch, stock, teacher, student, task_and_batch):
    """Sources in another language are not sorted by their length, which fairseq's RNNs rely on."""
    net_input = net_input_of(task_and_batch)
    order = torch.randperm(
        len(net_input["src_lengths"]), generator=torch.Generator().manual_seed(1)
    )
    assert net_input["src_lengths"].unique().numel() > 2
    shuffled = {name: x[order] for name, x in net_input.items()}
    frozen = load_teacher(f"{teacher.best}:{stock(arch).last}", None, student)
    expected = frozen.log_probs(net_input, torch.float32)[order]
    torch.testing.assert_close(frozen.log_probs(shuffled, torch.float32), expected)

    frozen = load_teacher(str(teacher.best), None, student)
    _, *in_order = frozen.answer(net_input, torch.float32, ["cross", "fusion"])
    _, *found = frozen.answer(shuffled, torch.float32, ["cross", "fusion"])
    for expected, of_shuffled in zip(in_order, found):
        expected = {
            family: tuple(x[order] for x in both) if isinstance(both, tuple) else both[order]
            for family, both in expected.items()
        }
        torch.testing.assert_close(of_shuffled, expected)


def test_it_is_asked_about_the_other_source_where_there_is_one():
    net_input = {"src_tokens": 1, "src_lengths": 2, "prev_output_tokens": 3, "image_features": 4}
    assert asked({"net_input": net_input}) == net_input
    other = {"src_tokens": 5, "src_lengths": 6}
    assert asked({"net_input": net_input, "teacher": other}) == {**net_input, **other}


class Half(FairseqEncoderDecoderModel):
    """A model whose output tells the type in which it computes."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.encoder = torch.nn.Identity()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, src_tokens, src_lengths):
        self.seen = self.weight.dtype
        return self.weight.expand(*src_tokens.shape, 3), None

    def get_normalized_probs(self, net_output, log_probs):
        return torch.log_softmax(net_output[0], dim=-1)


def test_it_computes_in_the_students_type_and_answers_in_float32():
    model = Half()
    tokens = {
        "src_tokens": torch.ones(2, 3, dtype=torch.long),
        "src_lengths": torch.tensor([3, 3]),
    }
    log_probs = FrozenTeacher([Member(model, False, 1)]).log_probs(tokens, torch.bfloat16)
    assert model.seen == torch.bfloat16
    assert log_probs.dtype == torch.float32
    assert math.isclose(log_probs[0, 0, 0].exp().item(), 1 / 3, rel_tol=1e-2)


def test_it_is_frozen_and_in_evaluation_mode():
    model = Half().train()
    frozen = FrozenTeacher([Member(model, False, 1)])
    assert not model.training
    assert not model.weight.requires_grad
    assert not isinstance(frozen, torch.nn.Module)


def test_loading_leaves_the_random_numbers_of_the_training_alone(teacher, student):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_teacher(str(teacher.best), None, student)
    assert torch.equal(torch.rand(4), expected)


def test_loading_sets_up_no_translation_of_its_own(teacher, student, monkeypatch):
    """It was trained with --eval-bleu, whose tools need not be installed here."""

    def build_generator(*args, **kwargs):
        raise AssertionError("the teacher does not translate")

    monkeypatch.setattr(TranslationTask, "build_generator", build_generator)
    load_teacher(str(teacher.best), None, student)


# -- what is refused ------------------------------------------------------------------------------


def refusal(path, student, data=None):
    with pytest.raises(TeacherError) as caught:
        load_teacher(str(path), data, student)
    [problem] = caught.value.problems
    return problem


def test_the_problems_of_all_checkpoints_are_reported(teacher, student, tmp_path):
    with pytest.raises(TeacherError) as caught:
        load_teacher(f"{tmp_path / 'a.pt'}:{teacher.best}:{tmp_path / 'b.pt'}", None, student)
    first, second = caught.value.problems
    assert first == f"--teacher-path {tmp_path / 'a.pt'} does not exist"
    assert second == f"--teacher-path {tmp_path / 'b.pt'} does not exist"


def test_another_target_dictionary_is_refused(teacher, student):
    dictionary = student.source_dictionary
    problem = refusal(teacher.best, student._replace(target_dictionary=dictionary))
    assert "another target dictionary than the student (first: teacher, second: student)" in problem
    assert "symbol 4 is" in problem
    assert "distil at the sentence level, which has no such need" in problem


def test_another_source_dictionary_is_refused(teacher, student):
    dictionary = student.target_dictionary
    problem = refusal(teacher.best, student._replace(source_dictionary=dictionary))
    assert "another source dictionary (first: teacher, second: en in the student's" in problem


def test_another_source_language_is_refused(teacher, student):
    problem = refusal(teacher.best, student._replace(source_lang="fr"))
    assert "translates from en, but is to read fr: --teacher-source-lang names" in problem


def test_another_target_language_is_refused(teacher, student):
    """Also where one joint dictionary serves both."""
    problem = refusal(teacher.best, student._replace(target_lang="fr"))
    assert problem.endswith("translates into de, the student into fr")


def test_a_store_that_cannot_be_opened_is_not_the_teachers_problem(teacher, student):
    load_teacher(str(teacher.best), None, student._replace(images=None))
    problem = refusal(teacher.best, student._replace(images=None, image_h5=None))
    assert (
        "reads images: give the image store with --image-h5. A student without images learns"
        in problem
    )


def test_a_model_that_does_not_translate_is_refused(stock, student, tmp_path):
    state = torch.load(stock("lstm").last, weights_only=True)
    for name in ("source_lang", "target_lang"):
        del state["cfg"]["task"][name]
    state["cfg"]["task"]["_name"] = "language_modeling"
    torch.save(state, tmp_path / "lm.pt")
    problem = refusal(tmp_path / "lm.pt", student)
    assert "was trained for the task language_modeling, which translates nothing" in problem


def test_a_model_of_an_absent_plugin_is_refused(stock, student, tmp_path):
    state = torch.load(stock("lstm").last, weights_only=True)
    state["cfg"]["model"]._name = "of_another_plugin"
    torch.save(state, tmp_path / "other.pt")
    problem = refusal(tmp_path / "other.pt", student)
    assert "architecture of_another_plugin comes from a plugin, it must be loaded too" in problem


def test_a_teacher_for_shorter_sentences_is_refused(stock, student):
    with pytest.raises(TeacherError) as caught:
        load_teacher(
            str(stock("transformer").last), None, student._replace(max_positions=(2000, 3000))
        )
    first, second = caught.value.problems
    assert "at most 1024 tokens, the task allows 2000: give --max-source-positions 1024" in first
    assert "at most 1024 tokens, the task allows 3000: give --max-target-positions 1024" in second


def test_a_multimodal_teacher_needs_images_of_its_kind(
    teacher, stock, student, write_store, tmp_path
):
    problem = refusal(teacher.best, student._replace(images=None, image_h5=None))
    assert "reads images: give the image store with --image-h5. A student without images" in problem
    larger = ImageStore(write_store(tmp_path / "larger.h5", ["a"], size=9))
    problem = refusal(teacher.best, student._replace(images=larger))
    assert "was trained with image features of size 8, but" in problem
    assert "larger.h5 has image features of size 9. Make the store as" in problem
    foreign = dataclasses.replace(student.images.description, backbone="resnet18")
    other = ImageStore(write_store(tmp_path / "other.h5", ["a"], description=foreign))
    problem = refusal(teacher.best, student._replace(images=other))
    assert "was trained with images of another kind: backbone 'made-up' then" in problem
    load_teacher(str(stock("transformer").last), None, student._replace(images=None))


# -- where its dictionaries are -------------------------------------------------------------------


@pytest.fixture
def moved(train, stock_options, data_bin, tmp_path):
    """A stock teacher whose folder has been moved: (checkpoint, old folder, new folder)."""

    def make(task):
        old = tmp_path / "old"
        shutil.copytree(data_bin, old)
        options = ["--task", task, *stock_options["transformer"]]
        checkpoint = train(tmp_path / "teacher", *options, data=old).last
        return checkpoint, old, old.rename(tmp_path / "new")

    return make


@pytest.mark.parametrize("task", ["translation", "multimodal_translation"])
def test_moved_dictionaries_are_found_with_teacher_data(
    task, moved, student, task_and_batch, train, tmp_path
):
    path, old, new = moved(task)
    problem = refusal(path, student)
    assert f"looked for in {old} (named by its checkpoint), which is no folder" in problem
    assert "Say with --teacher-data where" in problem
    frozen = load_teacher(str(path), str(new), student)
    frozen.log_probs(net_input_of(task_and_batch), torch.float32)

    kd = ("--criterion", "kd_label_smoothed_cross_entropy", "--max-update", "1")
    train(tmp_path / "student", *kd, "--teacher-path", path, "--teacher-data", new)

    (new / "dict.de.txt").unlink()
    problem = refusal(path, student, str(new))
    assert (
        f"needs dict.de.txt in {new} (given by --teacher-data), which has no such file" in problem
    )


@pytest.mark.parametrize("task", ["translation", "multimodal_translation"])
def test_dictionaries_that_are_not_the_teachers_are_one_more_problem(task, moved, student):
    path, _, new = moved(task)
    with (new / "dict.de.txt").open("a") as file:
        file.write("another 1\n")
    problem = refusal(path, student, str(new))
    assert str(path) in problem
    assert "--teacher-data" in problem


def test_a_file_that_is_no_checkpoint_is_one_more_problem(student, tmp_path):
    path = tmp_path / "teacher.pt"
    path.write_text("not a checkpoint")
    assert str(path) in refusal(path, student)


def test_a_teachers_own_image_store_and_teacher_are_not_needed(
    train, teacher, student, task_and_batch, store, tmp_path
):
    """A distilled model teaches; its store has moved and its own teacher is gone."""
    store_copy, teacher_copy = tmp_path / "store.h5", tmp_path / "teacher.pt"
    shutil.copy(store, store_copy)
    shutil.copy(teacher.best, teacher_copy)
    distilled = train(
        *(tmp_path / "distilled", "--image-h5", store_copy, "--teacher-path", teacher_copy),
        *("--criterion", "kd_label_smoothed_cross_entropy", "--disable-validation"),
    )
    store_copy.unlink()
    teacher_copy.unlink()
    frozen = load_teacher(str(distilled.last), None, student)
    frozen.log_probs(net_input_of(task_and_batch), torch.float32)
