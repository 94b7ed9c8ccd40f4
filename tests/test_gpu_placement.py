"""On a GPU the forward pass and the loss find every tensor there, and look at none: that is to wait.

No GPU is needed, and nothing is computed: torch's fake tensors know their shape, type and device alone.
An operation on tensors of two devices fails with them, and so does whatever depends on a value. What the
RNNs compute, which is cuDNN's there, has a stand-in that looks at the devices and types. Without a GPU
there is no backward pass, but for the loss's own. Pictures are left out: how many a mini-batch has is a
shape, and has to be waited for.
"""

import contextlib
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from fairseq import tasks, utils
from fairseq.modules import SinusoidalPositionalEmbedding
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

import caf_dkd_plugin
import caf_dkd_plugin.distillation.teacher
from caf_dkd_plugin import distillation
from caf_dkd_plugin.distillation import blockwise_loss
from caf_dkd_plugin.distillation.tail_shape import TailShape
from caf_dkd_plugin.models import cross_modal_transformer
from caf_dkd_plugin.modules import recurrent_encoder
from caf_dkd_plugin.tasks.multimodal_translation.teaching import Teaching

PLUGIN = Path(caf_dkd_plugin.__file__).parent

KD = "--criterion kd_label_smoothed_cross_entropy --kd-lambda 0.3"
TRANSFORMER = "--arch cross_modal_transformer_tiny"
STUDENTS = {
    "GRU": "",
    "LSTM, input feeding": "--rnn-cell lstm --decoder-input-feeding --decoder-layers 2",
    "Transformer": TRANSFORMER,
}
TAUGHT = {
    "no teacher": "",
    "live": f"{KD} --teacher-path TEACHER --kd-temperature 2",
    "cached": f"{KD} --teacher-cache CACHE",
    "cached, another divergence": f"{KD} --teacher-cache CACHE --kd-divergence js",
    "aligned": f"{KD} --teacher-path TEACHER --a2d-families cross,fusion",
}
IMAGES = "--image-h5 STORE --image-dropout 0.3 --image-missing mask"
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def cache(cache_teacher, teacher, data_bin, store, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "teacher.h5"
    command = [data_bin, "--image-h5", store, "--teacher-path", teacher.best, "--output", path]
    assert cache_teacher.main(list(map(str, command))) == 0
    return path


@pytest.fixture
def begin(parse, store, teacher, cache):
    """A function that gives what a training begins with: options -> task, model, criterion, batch."""
    paths = {"STORE": store, "TEACHER": teacher.best, "CACHE": cache}

    def make(options, places=(0, 2, 3, 4)):
        cfg = parse(*(str(paths.get(word, word)) for word in shlex.split(options)))
        utils.set_torch_seed(1)
        task = tasks.setup_task(cfg.task)
        model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        task.load_dataset("train")
        pairs = task.dataset("train")
        return task, model, criterion, pairs.collater([pairs[place] for place in places])

    return make


@pytest.fixture
def step(begin):
    """A function that takes a training's first step with fake tensors: (options, dtype) -> the loss."""

    def take(options, dtype=torch.float32):
        task, model, criterion, batch = begin(options)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, cudnn_stand_in(), stock_fairseq():
            for module in (model, criterion, *teachers(task)):
                move(module, mode, dtype)
            batch = utils.apply_to_sample(lambda x: mode.from_tensor(x).to(GPU), batch)
            batch = utils.apply_to_sample(  # as fairseq's trainer
                lambda x: x.to(dtype) if x.is_floating_point() else x, batch
            )
            optimizer = mock.Mock()
            task.begin_epoch(1, model)
            loss, *_ = task.train_step(batch, model, criterion, optimizer, 0)
            optimizer.backward.assert_called_once_with(loss)
        return loss

    return take


def teachers(task):
    return (
        [member.model for member in task.teaching.teacher._members] if task.teaching.teacher else []
    )


def move(module, mode, dtype):
    """Give a module fake weights on the GPU."""
    for part in module.modules():
        for kind in (part._parameters, part._buffers):
            for name, tensor in kind.items():
                if tensor is None:
                    continue
                fake = mode.from_tensor(tensor.detach()).to(GPU)
                if fake.is_floating_point():
                    fake = fake.to(dtype)
                if kind is part._parameters:
                    fake = torch.nn.Parameter(fake, tensor.requires_grad)
                kind[name] = fake


@contextlib.contextmanager
def cudnn_stand_in():
    """RNNs whose output has the shape, type and device of the real one's, and no packed sequences."""

    def recur(rnn, x, state=None):
        assert {(w.device, w.dtype) for w in rnn.parameters()} == {(x.device, x.dtype)}
        directions = 2 if rnn.bidirectional else 1
        hidden = x.new_empty(rnn.num_layers * directions, len(x), rnn.hidden_size)
        if isinstance(rnn, torch.nn.LSTM):
            given, hidden = state, (hidden, hidden)
        else:
            given = None if state is None else (state,)
        for part in given or ():
            assert (part.device, part.dtype) == (x.device, x.dtype)
            assert part.shape == (rnn.num_layers * directions, len(x), rnn.hidden_size)
        return x.new_empty(*x.shape[:2], directions * rnn.hidden_size), hidden

    def packed(x, lengths, **_):
        assert lengths.device.type == "cpu"  # cuDNN wants them there
        return x

    with (
        mock.patch.object(torch.nn.GRU, "forward", recur),
        mock.patch.object(torch.nn.LSTM, "forward", recur),
        mock.patch.object(recurrent_encoder, "pack_padded_sequence", packed),
        mock.patch.object(recurrent_encoder, "pad_packed_sequence", lambda x, **_: (x, None)),
    ):
        yield


@contextlib.contextmanager
def stock_fairseq():
    """fairseq's Transformer looks at values (whether there is padding at all); nothing of ours may.

    Its positions, which it reads from ONNX's shapes, have a stand-in.
    """

    def look(tensor):
        place = sys._getframe(1)
        assert PLUGIN not in Path(place.f_code.co_filename).parents, f"{place} waits for the GPU"
        return True

    def cpu(tensor):
        place = sys._getframe(1)
        assert place.f_globals is vars(recurrent_encoder), f"{place} waits for the GPU"
        return tensor.to("cpu")

    def positions(embedding, tokens, *_, **__):
        like = next(embedding.buffers())
        return like.new_empty(*tokens.shape, embedding.embedding_dim)

    with (
        mock.patch.object(torch.Tensor, "__bool__", look),
        mock.patch.object(torch.Tensor, "cpu", cpu),
        mock.patch.object(SinusoidalPositionalEmbedding, "forward", positions),
    ):
        yield


@pytest.mark.parametrize("taught", TAUGHT.values(), ids=TAUGHT)
@pytest.mark.parametrize("student", STUDENTS.values(), ids=STUDENTS)
def test_a_step_in_float16(step, student, taught):
    loss = step(f"{student} {taught} {IMAGES}", torch.float16)
    assert (loss.device, loss.dtype, loss.shape) == (GPU, torch.float32, ())


def test_a_step_in_float32(step):
    loss = step(f"{TAUGHT['aligned']} {IMAGES}", torch.float32)
    assert (loss.device, loss.dtype, loss.shape) == (GPU, torch.float32, ())


def test_a_tensor_left_behind_would_be_noticed(step):
    def left_behind(teaching, device):
        arrays = (teaching.cache.tail_mean, teaching.cache.tail_directions)
        return TailShape(*(torch.from_numpy(array) for array in arrays))

    with (
        mock.patch.object(Teaching, "_tail_shape", left_behind),
        pytest.raises(RuntimeError, match="on the same device"),
    ):
        step(f"{TAUGHT['cached']} {IMAGES}")


def test_the_gradient_of_the_loss_is_there_too():
    with FakeTensorMode(), stock_fairseq():
        gradient, outer = torch.empty(6, 9, device=GPU), torch.empty(6, device=GPU)
        backward = blockwise_loss.BlockwiseLoss.backward
        found = backward(SimpleNamespace(saved_tensors=[gradient]), outer, None, None)
    assert (found[0].device, found[0].shape) == (GPU, (6, 9))


LOOKS = pytest.mark.parametrize(
    ("module", "options"),
    [
        (distillation.teacher, TAUGHT["live"]),
        (cross_modal_transformer.encoder, TRANSFORMER),
        (distillation.blockwise_loss, TAUGHT["live"]),
    ],
    ids=["teacher", "Transformer", "loss"],
)


@LOOKS
def test_a_look_would_be_noticed(step, module, options):
    with (
        mock.patch.object(module, "is_slow_to_look_at", return_value=False),
        pytest.raises((AssertionError, DynamicOutputShapeException), match=r"waits|nonzero"),
    ):
        step(f"{options} {IMAGES}")


@LOOKS
@pytest.mark.parametrize("places", [(0, 2, 3, 4), (5,)], ids=["some padding", "none"])
def test_what_is_not_looked_at_changes_nothing(begin, module, options, places):
    losses = []
    for slow in (False, True):
        task, model, criterion, batch = begin(f"{options} {IMAGES}", places)
        task.begin_epoch(1, model)
        with mock.patch.object(module, "is_slow_to_look_at", return_value=slow):
            loss, *_ = task.train_step(batch, model, criterion, mock.Mock(), 0)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
