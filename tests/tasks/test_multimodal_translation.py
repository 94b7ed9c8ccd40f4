import ast
import copy
import dataclasses
from argparse import Namespace

import pytest
import torch
from fairseq import options, tasks
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import OmegaConf, open_dict

from caf_dkd_plugin.criterions.kd_label_smoothed_cross_entropy import (
    KDLabelSmoothedCrossEntropyCriterionConfig,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from caf_dkd_plugin.data.image_store import Description
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.data.multimodal_dataset import MultimodalDataset
from caf_dkd_plugin.distillation.teacher import Answer
from caf_dkd_plugin.models.cross_modal_rnn import CrossModalRNNConfig
from caf_dkd_plugin.models.cross_modal_transformer import CrossModalTransformerConfig
from caf_dkd_plugin.tasks.multimodal_translation import MultimodalTranslationConfig

KD = "kd_label_smoothed_cross_entropy"
REGIONS, SIZE = 4, 8  # of conftest's store
BEST_BLEU = {
    "task.best_checkpoint_metric": "bleu",
    "task.maximize_best_checkpoint_metric": True,
    "task.eval_bleu": True,
    "task.eval_bleu_args": "{}",
}


@pytest.fixture(scope="session")
def parsed(parse, store):
    return parse("--image-h5", store)


@pytest.fixture
def settings(parsed):
    """A function that gives fairseq-train's settings with changes such as {"task.data": ...}."""

    def change(changes):
        cfg = copy.deepcopy(parsed)
        with open_dict(cfg):
            for key, value in changes.items():
                section, name = key.split(".")
                cfg[section][name] = value
        return cfg

    return change


@pytest.fixture
def start(settings):
    """A function that does what fairseq-train does before it loads data: (changes) -> task, model."""

    def start(changes):
        cfg = settings(changes)
        task = tasks.setup_task(cfg.task)
        model = task.build_model(cfg.model)
        task.build_criterion(cfg.criterion)
        return task, model

    return start


@pytest.fixture
def use(settings):
    """A function that does what fairseq-generate does with a checkpoint: -> task."""

    def use(model_size, changes, state=None):
        cfg = settings({**changes, "model.image_feature_size": model_size})
        task = tasks.setup_task(cfg.task)
        task.load_state_dict(state or {})
        task.build_model(cfg.model, from_checkpoint=True)
        return task

    return use


def with_criterion(name, **values):
    return {"criterion._name": name, **{f"criterion.{key}": x for key, x in values.items()}}


def with_kd(**values):
    plain = {"kd_lambda_end": None, "kd_temperature": 2.0, "kd_divergence": "forward-kl"}
    return with_criterion(KD, **{**plain, "a2d_families": None, **values})


def distilling(teacher, **values):
    return {"task.teacher_path": str(teacher.best), **with_kd(**{"kd_lambda": 0.5, **values})}


# -- options --------------------------------------------------------------------------------------

CONFIGS = {
    MultimodalTranslationConfig: TranslationConfig,
    KDLabelSmoothedCrossEntropyCriterionConfig: LabelSmoothedCrossEntropyCriterionConfig,
}
MODELS = (CrossModalRNNConfig, CrossModalTransformerConfig)
"""a training has one of them"""


def option_names(config, base=None):
    """The fields that a config declares itself: not those of its base or of other components."""
    inherited = {field.name for field in dataclasses.fields(base)} if base else {"_name"}
    return {
        field.name
        for field in dataclasses.fields(config)
        if field.name not in inherited and not str(field.default).startswith("${")
    }


@pytest.mark.parametrize("model", MODELS)
def test_no_option_is_declared_twice(model):
    """fairseq would drop the second one silently; both would then read the first one's value."""
    names = [option_names(config) for config in (*CONFIGS, model)]
    assert len(set.union(*names)) == sum(map(len, names))
    fairseqs = {
        action.dest
        for parser in (options.get_training_parser(), options.get_interactive_generation_parser())
        for action in parser._actions
    }
    assert not set.union(*names) & fairseqs


def test_every_option_is_read_and_has_a_help_text(root):
    read = set()
    for path in (root / "caf_dkd_plugin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    for config, base in [*CONFIGS.items(), *((model, None) for model in MODELS)]:
        for name in option_names(config, base):
            assert name in read, f"{config.__name__}.{name} is never read"
            assert config.__dataclass_fields__[name].metadata["help"]


# -- before training starts -----------------------------------------------------------------------


def test_facts_of_the_store_are_written_into_the_models_settings(settings, store):
    cfg = settings({})
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    assert cfg.model.image_feature_size == SIZE
    assert model.encoder.fusion is not None
    cfg = settings({"task.image_h5": None})
    assert tasks.setup_task(cfg.task).build_model(cfg.model).encoder.fusion is None
    assert cfg.model.image_feature_size == 0


def test_a_feature_size_that_agrees_with_the_store_is_harmless(start):
    start({"model.image_feature_size": SIZE})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task.left_pad_source": True}, "--left-pad-source: this task pads .* on the right"),
        ({"task.image_dropout": 1.5}, "--image-dropout 1.5 must lie between 0 and 1"),
        (
            {"task.image_dropout": 0.5, "task.image_h5": None},
            "--image-dropout hides images, but there are none: give --image-h5",
        ),
        (
            {"task.image_missing": "mask", "task.image_h5": None},
            "--image-missing mask has no effect on a training without images: give --image-h5",
        ),
        ({"task.image_list": "x"}, "--image-list is for fairseq-interactive"),
        ({"task.teacher_data": "x"}, "--teacher-data without --teacher-path has no effect"),
        ({"task.image_h5": "no.h5"}, "no.h5 does not exist. Make it with preprocess/"),
        ({"task.teacher_path": "no.pt"}, "--teacher-path no.pt does not exist"),
        ({"task.init_from": "no.pt"}, "--init-from no.pt does not exist"),
        (
            {"model.image_feature_size": 9},
            f"--image-feature-size 9 does not fit .*features.h5, which has image features of size {SIZE}",
        ),
        (
            {"model.image_feature_size": 9, "task.image_h5": None},
            "--image-feature-size 9 is read from the image store: give --image-h5 instead",
        ),
        ({"task.valid_subset": "valid,valid1"}, "has no split 'valid1' for en-de"),
        (
            {"task.best_checkpoint_metric": "kd_loss"},
            "--best-checkpoint-metric kd_loss is of training only, since no teacher is asked",
        ),
        (
            {**BEST_BLEU, "task.eval_bleu": False},
            "--best-checkpoint-metric bleu needs --eval-bleu",
        ),
        (
            {**BEST_BLEU, "task.maximize_best_checkpoint_metric": False},
            "--best-checkpoint-metric bleu would keep the worst epoch without --maximize-best",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(start, changes, message):
    with pytest.raises(
        ValueError, match=r"training cannot start, 1 problem\(s\) found:\n- .*"
    ) as e:
        start(changes)
    assert e.match(message)


def test_the_best_epoch_may_be_told_by_bleu(start):
    start(BEST_BLEU)
    start({**BEST_BLEU, "task.eval_bleu": False, "task.disable_validation": True})


def test_all_problems_are_in_one_report(start, data_copy, write_store, tmp_path):
    lines = (data_copy / "train.images").read_text().splitlines(keepends=True)
    (data_copy / "train.images").write_text("".join(lines[1:]))
    (data_copy / "valid.images").write_text("a.png\n" + 19 * "\n")
    changes = {
        "task.data": str(data_copy),
        "task.image_h5": str(write_store(tmp_path / "other.h5", ["b.png"], size=5)),
        "task.image_list": "x",
        "task.image_dropout": -1,
        "model.image_feature_size": SIZE,
        "task.teacher_path": f"no.pt:{tmp_path / 'none.pt'}",
    }
    with pytest.raises(ValueError, match=r"^training cannot start, 7 problem\(s\)") as caught:
        start(changes)
    report = str(caught.value).splitlines()[1:]
    assert len(report) == 7
    for line, part in zip(
        report,
        (
            "--image-dropout -1.0 must",
            "--image-list is for",
            "train.images has 63 lines, but train in",
            "lacks 1 of the images of valid, which 1 of its 20 sentences need: a.png (line 1). Extract",
            f"--image-feature-size {SIZE} does not fit",
            "--teacher-path no.pt does not exist",
            "none.pt does not exist",
        ),
    ):
        assert line.startswith("- ")
        assert part in line


@pytest.mark.parametrize(
    ("removed", "changes", "message"),
    [
        ("*", {}, "has no binarised split that tells the languages: say --source-lang"),
        (
            "*",
            {"task.source_lang": "en", "task.target_lang": "de"},
            "has no dict.en.txt.*\n.*dict.de",
        ),
        ("dict.de.txt", {}, "has no dict.de.txt. DATA is the folder that fairseq-preprocess"),
    ],
)
def test_a_folder_that_is_not_binarised_data_is_named(start, data_copy, removed, changes, message):
    for path in data_copy.glob(removed):
        path.unlink()
    languages = {"task.source_lang": None, "task.target_lang": None}
    with pytest.raises(ValueError, match=message):
        start({"task.data": str(data_copy), **languages, **changes})


def test_folders_that_do_not_exist_are_all_named(start, data_bin):
    with pytest.raises(ValueError, match=r"no folder nowhere.*\n.*no folder neither"):
        start({"task.data": f"{data_bin}:nowhere:neither"})


def test_every_split_of_the_training_is_checked(start, data_copy):
    """The training set of every folder, and each validation set; test only where it is one."""
    for split in ("train", "valid", "test"):
        (data_copy / f"{split}.images").unlink()
    data = {"task.data": f"{data_copy}:{data_copy}"}
    with pytest.raises(ValueError, match="3 problem") as caught:
        start(data)
    assert str(caught.value).count("train.images does not exist") == 2
    assert str(caught.value).count("valid.images does not exist") == 1
    with pytest.raises(ValueError, match="4 problem"):
        start({**data, "task.valid_subset": "valid,test"})
    with pytest.raises(ValueError, match="2 problem"):
        start({**data, "task.disable_validation": True})


def test_images_that_the_store_lacks_may_be_masked(start, data_copy):
    (data_copy / "valid.images").write_text("a.png\n" * 10 + 10 * "\n")
    changes = {"task.data": str(data_copy)}
    with pytest.raises(ValueError, match=r"lacks 1 of .* which 10 .* --image-missing mask"):
        start(changes)
    task, _ = start({**changes, "task.image_missing": "mask"})
    task.load_dataset("valid")
    assert (task.dataset("valid").rows == -1).all()


def test_a_store_that_has_no_image_of_the_training_is_another_one(start, data_copy):
    ids = (data_copy / "train.images").read_text().splitlines()
    (data_copy / "train.images").write_text("".join(f"photos/{name}\n" for name in ids))
    changes = {"task.data": str(data_copy), "task.image_missing": "mask"}
    with pytest.raises(ValueError, match="1 problem") as caught:
        start(changes)
    assert f"has none of the {len(set(ids))} images of train in {data_copy}" in str(caught.value)
    assert f"the list names photos/{ids[0]}" in str(caught.value)
    (data_copy / "train.images").write_text("\n" * len(ids))  # none, on purpose
    start(changes)


def test_a_store_needs_an_architecture_that_reads_images(parse, store):
    cfg = parse("--arch", "transformer", "--image-h5", store)
    with pytest.raises(ValueError, match="the architecture transformer reads no images"):
        tasks.setup_task(cfg.task).build_model(cfg.model)


def test_an_old_style_architecture_is_named_too(parse, store):
    cfg = parse("--arch", "lstm", "--image-h5", store)
    with pytest.raises(ValueError, match="the architecture lstm reads no images"):
        tasks.setup_task(cfg.task).build_model(cfg.model)


# -- teacher and criterion ------------------------------------------------------------------------


def test_distillation_needs_a_teacher(start):
    message = r"--kd-lambda 0.4 gives distillation a weight of 0.6, but there is no teacher"
    with pytest.raises(ValueError, match=message):
        start(with_kd(kd_lambda=0.4))
    start(with_kd(kd_lambda=1.0))


def test_options_of_a_distillation_without_weight_are_refused(start):
    for values, message in (
        (
            {"kd_temperature": 3.0},
            "--kd-temperature 3.0 has no effect with --kd-lambda 1: leave it",
        ),
        ({"kd_divergence": "js"}, "--kd-divergence js has no effect with --kd-lambda 1: leave it"),
        ({"kd_lambda_end": 1.0, "kd_temperature": 4.0}, "--kd-temperature 4.0 has no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            start(with_kd(kd_lambda=1.0, **values))


def test_a_teacher_without_effect_is_refused(start, teacher):
    with pytest.raises(ValueError, match="--teacher-path has no effect with --kd-lambda 1"):
        start({**distilling(teacher), "criterion.kd_lambda": 1.0})
    criterion = with_criterion("label_smoothed_cross_entropy")
    with pytest.raises(ValueError, match=f"no effect with --criterion label_.*: use .* {KD}"):
        start({**distilling(teacher), **criterion})
    start(distilling(teacher))


def test_a_teacher_with_another_dictionary_is_refused(start, teacher, data_copy):
    swap_symbols(data_copy / "dict.de.txt")
    changes = {**distilling(teacher), "task.data": str(data_copy)}
    with pytest.raises(
        ValueError, match=r"cannot start, 1 problem.*\n- the teacher .* another target"
    ):
        start(changes)


def test_the_teacher_is_not_looked_for_when_a_checkpoint_is_used(use):
    task = use(SIZE, {"task.teacher_path": "gone.pt"})
    assert task.teaching.teacher is None


def test_validation_translates_with_the_student(start, teacher):
    """Building the teacher through the student's task would put it into the student's generator."""
    bleu = {"task.eval_bleu": True, "task.eval_bleu_args": "{}"}
    task, model = start({**distilling(teacher), **bleu})
    assert task.sequence_generator.model.single_model is model


# -- data -----------------------------------------------------------------------------------------


def test_images_of_a_split_are_read_beside_it_only(settings, data_bin):
    task = tasks.setup_task(settings({"task.image_list": "x"}).task)
    with pytest.raises(
        ValueError, match=r"--image-list is for .*; the images of valid are named by"
    ):
        task.load_dataset("valid")


def test_a_missing_image_stops_the_loading_of_a_split(settings, write_store, tmp_path):
    store = str(write_store(tmp_path / "few.h5", ["a.png"]))
    task = tasks.setup_task(settings({"task.image_h5": store}).task)
    with pytest.raises(
        ValueError, match=r"lacks 19 of the images of test, .* --image-missing mask"
    ):
        task.load_dataset("test")


def test_pictures_must_be_square(settings, tmp_path):
    path = tmp_path / "pixels.h5"
    writer = ImageStoreWriter(path, ["a"], (2, 4, 3), "uint8", Description("", "", "", "", ""))
    writer.write([0], torch.zeros(1, 2, 4, 3, dtype=torch.uint8).numpy())
    writer.finish()
    cfg = settings({"task.image_h5": str(path)})
    with pytest.raises(ValueError, match=r"pixels\.h5 have 2 x 4 pixels; square ones are needed"):
        tasks.setup_task(cfg.task).build_model(cfg.model)


@pytest.mark.parametrize("with_store", [True, False])
def test_sources_are_padded_on_the_right(settings, with_store):
    cfg = settings({} if with_store else {"task.image_h5": None})
    task = tasks.setup_task(cfg.task)
    task.load_dataset("valid")
    dataset = task.dataset("valid")
    assert isinstance(dataset, MultimodalDataset) == with_store
    lines = [torch.tensor([5, 6, 2]), torch.tensor([5, 2])]
    without = tasks.setup_task(settings({"task.image_h5": None}).task)
    inference = without.build_dataset_for_inference(lines, [3, 2])
    for pairs in (dataset, inference):
        shortest, longest = pairs.sizes.argmin(), pairs.sizes.argmax()
        batch = pairs.collater([pairs[int(shortest)], pairs[int(longest)]])
        tokens = batch["net_input"]["src_tokens"]
        assert (tokens[:, 0] != task.source_dictionary.pad()).all()
        assert tokens[1, -1] == task.source_dictionary.pad()


def test_images_follow_the_filter_by_length_and_the_batches(settings, data_bin):
    task = tasks.setup_task(settings({}).task)
    task.load_dataset("train")
    pairs = task.dataset("train")
    with pytest.raises(Exception, match=r"(?i)invalid|exceed"):
        task.get_batch_iterator(pairs, max_sentences=8, max_positions=(9, 9))
    iterator = task.get_batch_iterator(
        *(pairs, None, 8, (9, 9)), ignore_invalid_inputs=True, required_batch_size_multiple=8
    )
    ids = (data_bin / "train.images").read_text().splitlines()
    sentences = []
    for batch in iterator.next_epoch_itr():
        net_input = batch["net_input"]
        for sentence, features, mask in zip(
            batch["id"].tolist(), net_input["image_features"], net_input["image_mask"]
        ):
            sentences.append(sentence)
            assert mask.all() == mask.any() == bool(ids[sentence])
            if ids[sentence]:
                expected = pairs.store.read([pairs.store.row_of(ids[sentence])])[0]
                assert torch.equal(features, torch.from_numpy(expected))
    assert sorted(sentences) == [i for i in range(64) if pairs.sizes[i].max() <= 9]
    assert len(sentences) % 8  # some would be missing from fairseq-fixed's own batches


@pytest.mark.parametrize("renewed", [False, True])
def test_mini_batches_are_new_where_update_epoch_batch_itr_says_so(settings, renewed, monkeypatch):
    """Whoever orders them is told the epoch; without the option the first, resumed or not."""
    task, told = tasks.setup_task(settings({}).task), []
    task.load_dataset("train")
    iterate = TranslationTask.get_batch_iterator

    def remember(*args, epoch, **kwargs):
        told.append(epoch)
        return iterate(*args, epoch=epoch, **kwargs)

    monkeypatch.setattr(TranslationTask, "get_batch_iterator", remember)
    for epoch in (1, 2, 3):
        iterator = task.get_batch_iterator(
            *(task.dataset("train"), None, 8, None), epoch=epoch, update_epoch_batch_itr=renewed
        )
    assert told == ([1, 2, 3] if renewed else [1, 1, 1])
    assert iterator.epoch == (3 if renewed else 1)  # the cached one counts by itself


# -- using a checkpoint ---------------------------------------------------------------------------


def test_an_image_model_without_images_must_be_meant(use):
    with pytest.raises(
        ValueError,
        match=r"was trained with images\. Give .* --image-list.* or --image-missing mask",
    ):
        use(SIZE, {"task.image_h5": None})
    use(SIZE, {"task.image_h5": None, "task.image_missing": "mask"})


def test_a_text_model_refuses_a_store(use):
    task = use(0, {})
    with pytest.raises(
        ValueError, match=r"trained without images and cannot use --image-h5 .*h5: leave"
    ):
        task.load_dataset("test")


def test_features_of_another_size_are_refused(use, write_store, tmp_path):
    task = use(SIZE, {"task.image_h5": str(write_store(tmp_path / "s.h5", ["a"], size=5))})
    message = rf"with image features of size {SIZE}, but .*s\.h5 has image features of size 5"
    with pytest.raises(ValueError, match=message):
        task.load_dataset("test")


def test_features_of_another_kind_are_refused(use, settings, write_store, tmp_path):
    trained = tasks.setup_task(settings({}).task).state_dict()
    other = Description("resnet50", "grid", "none", "1" * 64, "none")
    path = str(write_store(tmp_path / "s.h5", ["a"], description=other))
    task = use(SIZE, {"task.image_h5": path}, trained)
    message = (
        rf"another kind: backbone 'made-up' then, 'resnet50' in {path}; "
        rf"weights_sha256 '0+' then, '1+' in {path}\. Make"
    )
    with pytest.raises(ValueError, match=message):
        task.load_dataset("test")


def test_every_model_of_an_ensemble_is_checked(use, settings, write_store, tmp_path):
    trained = tasks.setup_task(settings({}).task).state_dict()
    other = Description("resnet50", "grid", "none", "1" * 64, "none")
    path = str(write_store(tmp_path / "s.h5", ["a"], description=other))
    task = use(SIZE, {"task.image_h5": path}, trained)
    task.load_state_dict({**trained, "images": dataclasses.asdict(other)})  # the second one fits
    with pytest.raises(ValueError, match="another kind"):
        task.load_dataset("test")


def swap_symbols(dictionary):
    """Exchange the first two words of a dictionary's file."""
    first, second, *rest = dictionary.read_text().splitlines(keepends=True)
    dictionary.write_text("".join([second, first, *rest]))
    return first.split()[0], second.split()[0]


def test_other_dictionaries_are_refused_with_their_first_difference(settings, data_copy):
    state = tasks.setup_task(settings({}).task).state_dict()
    pairs = [swap_symbols(data_copy / f"dict.{lang}.txt") for lang in ("en", "de")]
    task = tasks.setup_task(settings({"task.data": str(data_copy)}).task)
    with pytest.raises(ValueError, match="another source dictionary") as caught:
        task.load_state_dict(state)
    report = str(caught.value).splitlines()
    for line, side, lang, (first, second) in zip(report, ("source", "target"), ("en", "de"), pairs):
        assert f"another {side} dictionary than dict.{lang}.txt in {data_copy}" in line
        assert f"symbol 4 is {first!r} in the first and {second!r} in the second" in line


def test_checkpoints_of_other_tasks_have_nothing_to_compare(settings):
    tasks.setup_task(settings({}).task).load_state_dict({})


def test_the_state_survives_a_round_trip(settings):
    task = tasks.setup_task(settings({}).task)
    state = copy.deepcopy(task.state_dict())
    other = tasks.setup_task(settings({}).task)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert state["images"]["backbone"] == "made-up"


# -- training steps -------------------------------------------------------------------------------


class FakeTeacher:
    """Remembers what it is shown."""

    def answer(self, net_input, dtype, need_maps):
        self.net_input, self.dtype = net_input, dtype
        assert not need_maps
        return Answer("what the teacher says", {}, {})


@pytest.fixture
def stepped(monkeypatch):
    """What fairseq's own train_step gets."""
    samples = []

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs):
        samples.append(sample)

    monkeypatch.setattr(TranslationTask, "train_step", train_step)
    return samples


def make_sample(sentences, hidden=()):
    mask = torch.ones(sentences, REGIONS, dtype=torch.bool)
    mask[list(hidden)] = False
    features = torch.randn(sentences, REGIONS, SIZE)
    return {"net_input": {"image_features": features, "image_mask": mask}}


def test_image_dropout_hides_whole_images_from_the_student_only(start, stepped):
    task, model = start({"task.image_dropout": 0.3})
    task.teaching.teacher = FakeTeacher()
    sample = make_sample(2000, hidden=range(1000, 1200))
    before = sample["net_input"]["image_mask"].clone()
    task.train_step(sample, model, None, None, 0)
    [seen] = stepped
    mask = seen["net_input"]["image_mask"]
    assert (mask == mask[:, :1]).all()
    assert not mask[1000:1200].any()
    assert 0.25 < 1 - mask[:1000, 0].float().mean() < 0.35
    assert seen["net_input"]["image_features"] is sample["net_input"]["image_features"]
    assert torch.equal(task.teaching.teacher.net_input["image_mask"], before)
    assert torch.equal(sample["net_input"]["image_mask"], before)


@pytest.mark.parametrize(("probability", "shown"), [(0.0, True), (1.0, False)])
def test_image_dropout_at_its_ends(start, stepped, probability, shown):
    task, model = start({"task.image_dropout": probability})
    task.train_step(make_sample(100), model, None, None, 0)
    assert (stepped[0]["net_input"]["image_mask"] == shown).all()


def test_of_a_mini_batch_that_no_cache_knows_nothing_is_said(start, stepped):
    """fairseq takes one of validation where a process has none left, and again to look for NaN."""
    task, model = start({})
    task.teaching.cache = object()  # whatever it knows
    sample = {**make_sample(3), "target": torch.zeros(3, 5, dtype=torch.long)}
    task.train_step(sample, model, None, None, 0, ignore_grad=False)
    log_probs = stepped[0]["teacher"]["log_probs"]
    assert log_probs.shape == (3, 5, len(task.target_dictionary))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 5))


def test_the_teacher_speaks_beside_the_input_of_the_student(start, stepped):
    task, model = start({})
    task.teaching.teacher = FakeTeacher()
    sample = make_sample(3)
    task.train_step(sample, model.to(torch.bfloat16), None, None, 0)
    said = {"log_probs": "what the teacher says", "maps": {}, "map_masks": {}}
    assert stepped[0]["teacher"] == said
    assert stepped[0]["net_input"] is sample["net_input"]
    assert "teacher" not in sample
    assert task.teaching.teacher.dtype == torch.bfloat16


def test_without_a_teacher_nothing_is_added(start, stepped):
    task, model = start({})
    sample = make_sample(3)
    task.train_step(sample, model, None, None, 0)
    assert stepped == [sample]


def test_validation_hides_nothing_and_has_no_teacher(start, settings, teacher):
    """Its loss is the same with image dropout and distillation as without."""
    losses = []
    for changes in ({}, {**distilling(teacher), "task.image_dropout": 1.0}):
        torch.manual_seed(0)
        task, model = start(changes)
        criterion = task.build_criterion(settings(changes).criterion)
        task.load_dataset("valid")
        pairs = task.dataset("valid")
        batch = pairs.collater([pairs[index] for index in range(8)])
        loss, _, _ = task.valid_step(batch, model, criterion)
        losses.append(loss.item())
    assert losses[0] == losses[1]


# -- fairseq-interactive --------------------------------------------------------------------------


def lines(*lengths):
    return [torch.arange(4, 4 + length) for length in lengths], list(lengths)


@pytest.fixture
def interactive(use, store, tmp_path):
    """A function that gives the task of fairseq-interactive with such a list of images."""

    def make(ids, **changes):
        path = tmp_path / "input.images"
        path.write_text("".join(f"{image}\n" for image in ids))
        changes = {f"task.{name}": value for name, value in changes.items()}
        return use(SIZE, {"task.image_list": str(path), **changes})

    return make


def test_each_line_of_input_gets_its_image_across_buffers(interactive):
    task = interactive(["train_00003.png", "", "test_00001.png"])
    first = task.build_dataset_for_inference(*lines(3, 4))
    second = task.build_dataset_for_inference(*lines(2))
    ids = first.store.ids
    assert [ids[row] if row >= 0 else "" for row in first.rows] == ["train_00003.png", ""]
    assert ids[second.rows[0]] == "test_00001.png"


def test_a_list_that_is_too_short_is_refused_with_both_numbers(interactive):
    task = interactive(["train_00003.png"])
    task.build_dataset_for_inference(*lines(3))
    with pytest.raises(
        ValueError, match=r"input\.images has 1 lines, but the input has at least 3"
    ):
        task.build_dataset_for_inference(*lines(2, 2))


def test_an_unknown_id_is_refused_or_masked(interactive):
    with pytest.raises(
        ValueError, match=r"lacks 1 of the images of .*input\.images.*x\.png \(line 2\)"
    ):
        interactive(["", "x.png"])
    task = interactive(["", "x.png"], image_missing="mask")
    assert task.build_dataset_for_inference(*lines(2, 2)).rows.tolist() == [-1, -1]


def test_a_list_needs_a_store_or_photographs_and_a_file(interactive, use):
    with pytest.raises(
        ValueError, match=r"no photograph that is there; .* give that with --image-h5"
    ):
        interactive(["train_00003.png"], image_h5=None, image_missing="mask")
    with pytest.raises(ValueError, match=r"--image-list cannot be read: .*none\.images"):
        use(SIZE, {"task.image_list": "none.images"})


def test_weights_for_photographs_need_a_list_of_some(interactive, use):
    with pytest.raises(ValueError, match="--image-list-weights has no effect without --image-list"):
        use(SIZE, {"task.image_list_weights": "w.pth"})
    with pytest.raises(ValueError, match=r"w\.pth has no effect: .* images of the store only"):
        interactive(["train_00003.png"], image_list_weights="w.pth")


def test_an_image_model_translates_without_images_where_that_is_meant(use):
    task = use(SIZE, {"task.image_h5": None, "task.image_missing": "mask"})
    assert not isinstance(task.build_dataset_for_inference(*lines(2)), MultimodalDataset)


@pytest.mark.parametrize("image_missing", ["error", "mask"])
def test_a_store_without_a_list_would_not_be_read(use, image_missing):
    task = use(SIZE, {"task.image_missing": image_missing})
    with pytest.raises(ValueError, match="--image-h5 is not read here without --image-list"):
        task.build_dataset_for_inference(*lines(2))


def test_images_are_put_back_to_the_tokens_they_were_made_for(interactive, monkeypatch):
    seen = []
    monkeypatch.setattr(TranslationTask, "inference_step", lambda *args: seen.append(args[3]))
    task = interactive(["train_00003.png", "", "test_00001.png"])
    pairs = task.build_dataset_for_inference(*lines(3, 4, 3))
    models = [torch.nn.Linear(1, 1, dtype=torch.bfloat16)]
    made = [pairs.collater([pairs[0], pairs[1]]), pairs.collater([pairs[2]])]
    for batch in made:
        tokens = {"src_tokens": batch["net_input"]["src_tokens"].clone()}
        task.inference_step(None, models, {"net_input": tokens})
    for sample, batch in zip(seen, made):
        for name in ("image_features", "image_mask"):
            expected = batch["net_input"][name]
            assert torch.equal(sample["net_input"][name].float(), expected.bfloat16().float())
        assert sample["net_input"]["image_features"].dtype == torch.bfloat16
    assert seen[0]["net_input"]["image_mask"].tolist() == [[False] * REGIONS, [True] * REGIONS]


def test_images_of_other_tokens_are_not_used(interactive):
    task = interactive(["train_00003.png"])
    pairs = task.build_dataset_for_inference(*lines(3))
    pairs.collater([pairs[0]])
    sample = {"net_input": {"src_tokens": torch.tensor([[9, 9, 9]])}}
    with pytest.raises(RuntimeError, match="came in another order than they were made"):
        task.inference_step(None, [torch.nn.Linear(1, 1)], sample)


def test_the_settings_are_those_of_the_command_line(parse):
    cfg = parse("--image-missing", "mask", "--image-dropout", "0.25", "--rnn-cell", "lstm")
    assert (cfg.task.image_missing, cfg.task.image_dropout) == ("mask", 0.25)
    assert cfg.model.rnn_cell == "lstm"
    assert not cfg.task.left_pad_source
    assert OmegaConf.to_container(cfg.task, resolve=True)["valid_subset"] == "valid"
    assert isinstance(tasks.setup_task(cfg.task), TranslationTask)
    assert not isinstance(cfg.task, Namespace)
