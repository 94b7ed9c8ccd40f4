"""docs/walkthrough.md is true of the code: what it links and names exists, its numbers are measured."""

import ast
import functools
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Set
from unittest import mock

import fairseq as fairseq_package
import pytest
import torch
from fairseq import checkpoint_utils, optim, tasks
from fairseq.dataclass.configs import GenerationConfig
from PIL import Image

from caf_dkd_plugin import Translator
from caf_dkd_plugin.criterions import kd_label_smoothed_cross_entropy
from caf_dkd_plugin.data.image_list import ImageList
from caf_dkd_plugin.data.image_store import ImageStore
from caf_dkd_plugin.data.pictures import load_picture
from caf_dkd_plugin.data.split_files import SplitFiles
from caf_dkd_plugin.data.split_images import read_split_ids

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "walkthrough.md"
INSTALLED = Path(fairseq_package.__file__).resolve().parent.parent
FOLDER = "demo/walk"
"""into which the page's commands write"""
SENTENCE = 18
"""the sentence that the page follows, counted from 0"""
BATCH = [3, SENTENCE, 0]
"""the sentences of its mini-batch, in the order in which they are collated"""


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


# -- what it links and names ----------------------------------------------------------------------

LINK = r"\[(?P<text>[^\]]+)\]\((?P<target>[^)]+)\)"
OF_FAIRSEQ = r"`(?P<installed>fairseq(?:_cli)?/[\w/]+\.py)`"
NAMES = r"(?P<names>(?:(?:: |, | and )`[A-Za-z_][\w.]*`)*)"


class Mention(NamedTuple):
    """A file on the page and the names right behind it."""

    path: Path
    names: List[str]


def mentions(page: str) -> List[Mention]:
    found = []
    for match in re.finditer(f"(?:{LINK}|{OF_FAIRSEQ}){NAMES}", page):
        if match["installed"]:
            path = INSTALLED / match["installed"]
        else:
            path = (PAGE.parent / match["target"]).resolve()
            shown = path.relative_to(ROOT).as_posix()
            assert match["text"] == shown, f"[{match['text']}] leads to {shown}"
        found.append(Mention(path, re.findall(r"`([^`]+)`", match["names"])))
    return found


@functools.cache
def defined(path: Path) -> Set[str]:
    """Qualified names of the functions, classes, methods and constants of a file."""
    found = set()

    def visit(body, prefix):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def test_every_file_is_there(page):
    missing = [str(mention.path) for mention in mentions(page) if not mention.path.exists()]
    assert missing == []


def test_every_name_is_defined_in_the_file_before_it(page):
    unknown = [
        f"{mention.path.name}: {name}"
        for mention in mentions(page)
        for name in mention.names
        if name not in defined(mention.path)
    ]
    assert unknown == []


def test_every_class_and_method_in_the_text_is_defined(page):
    """Those that do not stand behind a file are defined in some file of the page."""
    known = set().union(*(defined(one.path) for one in mentions(page) if one.path.suffix == ".py"))
    named = re.findall(r"`([A-Z]\w*[a-z]\w*(?:\.\w+)+|[A-Z][a-z]\w*[A-Z]\w*)`", page)
    assert sorted(set(named) - known) == []


def test_every_room_is_on_the_way(page):
    """A new room of the plugin gets its place on the page."""
    walked = {
        one.path.relative_to(ROOT).parts[:2] for one in mentions(page) if ROOT in one.path.parents
    }
    found = {init.parent.name for init in (ROOT / "caf_dkd_plugin").glob("*/__init__.py")}
    assert found <= {parts[1] for parts in walked if parts[0] == "caf_dkd_plugin"}


# -- what it measures -----------------------------------------------------------------------------


def rows(page: str, *header: str) -> List[List[str]]:
    """The cells of all tables with this header, without backticks."""
    found, inside = [], False
    for line in page.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == list(header):
            inside = True
        elif inside and set("".join(cells)) != {"-"}:
            found.append(cells)
    assert found, f"the page has no table {header}"
    return found


def line_of(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[SENTENCE]


def shape_of(value) -> str:
    return str(tuple(value.shape))


class Walk:
    """The page's commands, run into a folder."""

    interactive: List[str]
    """the keys of the mini-batch that fairseq-interactive gave to the task"""

    def __init__(self, folder: Path, script: str, fairseq):
        self.folder = folder
        self._fairseq = fairseq
        for line in script.replace("\\\n", " ").replace(FOLDER, str(folder)).splitlines():
            self._run(line)

    def _run(self, line: str) -> None:
        words = shlex.split(line)
        if words[0].startswith("fairseq-"):
            self._fairseq(words[0].partition("-")[2], *words[1:])
        elif words[0] == "python":
            assert main_of(ROOT / words[1])(words[2:]) in (None, 0), line
        else:
            subprocess.run(line, shell=True, check=True)


def main_of(script: Path):
    spec = importlib.util.spec_from_file_location(f"walked_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(script.parent), *sys.path]):
        spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def walk(page, fairseq, tmp_path_factory) -> Walk:
    [script] = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    put_back = mock.Mock(side_effect=ImageList.put_back)
    with mock.patch.object(ImageList, "put_back", lambda *args: put_back(*args)):
        walk = Walk(tmp_path_factory.mktemp("walk"), script, fairseq)
    [call] = put_back.call_args_list
    walk.interactive = list(call.args[1]["net_input"])
    return walk


def start(checkpoint: Path):
    """What fairseq-train builds with the settings of a checkpoint; the images are of `train`."""
    cfg = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))["cfg"]
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    criterion = task.build_criterion(cfg.criterion)
    task.load_dataset("train")
    return cfg, task, model, criterion


def collate(task):
    pairs = task.dataset("train")
    return pairs.collater([pairs[index] for index in BATCH])


def watch(model) -> Dict[str, list]:
    """What each part of a model gives, call by call, by its dotted name."""
    seen: Dict[str, list] = {}

    def hook(name, module, inputs, output):
        seen.setdefault(name, []).append(output)

    for name, part in model.named_modules():
        part.register_forward_hook(functools.partial(hook, name))
    return seen


def trainable(model):
    return [weight for weight in model.parameters() if weight.requires_grad]


@pytest.fixture(scope="module")
def facts(walk) -> Dict[str, str]:
    """Numbers and names."""
    folder, seen = walk.folder, {}
    text, pieces = folder / "corpus" / "text", folder / "pieces"
    for kind in ("en", "de", "images"):
        seen[f"line {SENTENCE + 1} of train.{kind}"] = line_of(text / f"train.{kind}")
    for lang in ("en", "de"):
        seen[f"pieces/train.{lang}"] = line_of(pieces / f"train.{lang}")
    image = line_of(text / "train.images")
    store = ImageStore(folder / "features.h5")
    seen[f'store.row_of("{image}")'] = str(store.row_of(image))
    seen["Description.weights"] = store.description.weights

    cfg, task, model, criterion = start(folder / "student" / "checkpoint_last.pt")
    dataset = task.dataset("train")
    files = SplitFiles(cfg.task.data, "en", "de", "mmap", combine=True, upsample_primary=1)
    ids = read_split_ids(files, "train")
    without = BATCH[0]
    seen[f"ids of sentences {SENTENCE} and {without}"] = f"{ids[SENTENCE]!r}, {ids[without]!r}"
    seen[f"rows of sentences {SENTENCE} and {without}"] = (
        f"{dataset.rows[SENTENCE]}, {dataset.rows[without]}"
    )
    seen["cfg.model.image_feature_size"] = str(cfg.model.image_feature_size)
    batch = collate(task)
    seen['batch["id"]'] = str(batch["id"].tolist())
    seen['batch["ntokens"]'] = str(batch["ntokens"])
    seen["image_mask.any(dim=1)"] = str(batch["net_input"]["image_mask"].any(dim=1).tolist())
    _, sample_size, log = criterion(model.train(), {**batch, "teacher": teacher_of(task, batch)})
    seen["sample_size"] = str(sample_size)
    seen["logged"] = ", ".join(log)
    seen["net_input when it reaches inference_step"] = ", ".join(walk.interactive)
    state = torch.load(folder / "student" / "checkpoint_last.pt", weights_only=True)
    seen["checkpoint"] = ", ".join(state)
    seen["task_state"] = ", ".join(state["task_state"])
    seen["learning rates of a step"] = ", ".join(map(str, rates_of_a_step(folder)))
    return seen


def teacher_of(task, batch):
    return {"log_probs": task.teaching.teacher.log_probs(batch["net_input"], torch.float32)}


def rates_of_a_step(folder: Path) -> List[float]:
    cfg, task, model, criterion = start(folder / "pixels" / "checkpoint_last.pt")
    optimizer = optim.build_optimizer(cfg.optimizer, trainable(model))
    rates = []
    optimizer.optimizer.register_step_pre_hook(
        lambda stepping, *_: rates.extend(group["lr"] for group in stepping.param_groups)
    )
    task.train_step(collate(task), model, criterion, optimizer, update_num=0)
    task.optimizer_step(optimizer, model, update_num=0)
    return sorted(rates, reverse=True)


@pytest.fixture(scope="module")
def shapes(walk) -> Dict[str, str]:
    """Shapes by the names that the page gives them."""
    folder, seen = walk.folder, {}
    picture = folder / "corpus" / "images" / f"train_{SENTENCE:05d}.png"
    seen["the file"] = str((*Image.open(picture).size, 3))
    seen["load_picture"] = shape_of(load_picture(picture, 64))
    seen["features.h5"] = str(ImageStore(folder / "features.h5").shape)
    seen["pixels.h5"] = str(ImageStore(folder / "pixels.h5").shape)

    cfg, task, model, criterion = start(folder / "student" / "checkpoint_last.pt")
    batch = collate(task)
    net_input = batch["net_input"]
    seen.update({f"net_input.{name}": shape_of(value) for name, value in net_input.items()})
    seen["target"] = shape_of(batch["target"])

    outputs = watch(model)
    optimizer = optim.build_optimizer(cfg.optimizer, trainable(model))
    samples, losses = [], mock.Mock(side_effect=kd_label_smoothed_cross_entropy.mixed_loss)
    criterion.register_forward_pre_hook(lambda _, inputs: samples.append(inputs[1]))
    with mock.patch.object(kd_label_smoothed_cross_entropy, "mixed_loss", losses):
        task.train_step(batch, model, criterion, optimizer, update_num=0)
    seen["sample.teacher.log_probs"] = shape_of(samples[0]["teacher"]["log_probs"])
    [(student_log_probs, target, _, teacher_log_probs, *_)] = [
        call.args for call in losses.call_args_list
    ]
    seen["student_log_probs"] = shape_of(student_log_probs)
    seen["teacher_log_probs"] = shape_of(teacher_log_probs)
    seen["flat target"] = shape_of(target)
    for name in (
        *("encoder.embed_tokens", "encoder.fusion.text_to_image.query"),
        *("encoder.fusion.text_to_image.key", "encoder.fusion.text_to_image.value"),
        *("encoder.recurrence", "decoder.recurrence.initial"),
    ):
        seen[name] = shape_of(outputs[name][0])
    context, weights = outputs["encoder.fusion.text_to_image"][0]
    seen["context"], seen["fusion attention"] = shape_of(context), shape_of(weights)
    seen["encoder.fusion"] = shape_of(outputs["encoder.fusion"][0][0])
    for name, value in outputs["encoder"][0].items():
        seen[f"result: {name}"] = shape_of(value)
    encoded = outputs["encoder"][0]
    memory = model.decoder.recurrence.read(encoded["memory"], encoded["mask"])
    seen["decoder.recurrence.read: keys"] = shape_of(memory.keys)
    seen["decoder.recurrence.read: values"] = shape_of(memory.values)
    result, state, attention = outputs["decoder.recurrence"][0]
    seen["state after the last step"] = shape_of(state[0])
    seen["decoder.recurrence"] = shape_of(result)
    seen["decoder attention"] = shape_of(attention)
    seen["logits"] = shape_of(outputs["decoder"][0][0])
    seen["extra.attn[0]"] = shape_of(outputs["decoder"][0][1]["attn"][0])

    seen.update(shapes_of_pixels(folder))
    seen.update(shapes_of_a_search(folder, batch))
    return seen


def shapes_of_pixels(folder: Path) -> Dict[str, str]:
    _, task, model, _ = start(folder / "pixels" / "checkpoint_last.pt")
    net_input = collate(task)["net_input"]
    passed = []
    model.encoder.backbone.register_forward_pre_hook(lambda _, inputs: passed.append(inputs[0]))
    outputs = watch(model)
    features, mask = model.encoder.read_images(net_input["images"], net_input["image_mask"])
    assert net_input["images"].dtype == torch.uint8
    assert features[0].any()
    assert not features[2].any()  # sentence 3
    return {
        "pixels: net_input.images": shape_of(net_input["images"]),
        "pixels: net_input.image_mask": shape_of(net_input["image_mask"]),
        "encoder.backbone reads": shape_of(passed[0]),
        "encoder.backbone": shape_of(outputs["encoder.backbone"][0]),
        "read_images: features": shape_of(features),
        "read_images: mask": shape_of(mask),
    }


def shapes_of_a_search(folder: Path, batch) -> Dict[str, str]:
    checkpoint = str(folder / "student" / "checkpoint_last.pt")
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([checkpoint])
    [model] = models
    outputs = watch(model.eval())
    asked = mock.Mock(side_effect=model.encoder.forward)
    reordered = mock.Mock(side_effect=model.encoder.reorder_encoder_out)
    with (
        mock.patch.object(model.encoder, "forward", asked),
        mock.patch.object(model.encoder, "reorder_encoder_out", reordered),
    ):
        generator = task.build_generator(models, GenerationConfig(beam=2, max_len_b=5))
        task.inference_step(generator, models, batch)
    [call] = asked.call_args_list
    assert sorted(call.kwargs) == sorted(set(batch["net_input"]) - {"prev_output_tokens"})
    context, weights = outputs["encoder.fusion.text_to_image"][0]
    assert not context[2].any()  # sentence 3
    assert not weights[2].any()
    torch.testing.assert_close(weights[:2].sum(dim=-1), torch.ones_like(weights[:2, :, :, 0]))
    before, order = reordered.call_args_list[0].args
    steps = outputs["decoder.recurrence"]
    translator = Translator.from_pretrained(checkpoint, image_h5=folder / "features.h5")
    picture = folder / "corpus" / "images" / f"train_{SENTENCE:05d}.png"
    line = line_of(folder / "pieces" / "train.en")
    [translation] = translator.translate([line], [picture])
    after = model.encoder.reorder_encoder_out(before, order)
    return {
        "memory for each sentence": shape_of(before["memory"]),
        "the same after reorder_encoder_out": shape_of(after["memory"]),
        "sentences": shape_of(after["sentences"]),
        "a step: decoder.recurrence": shape_of(steps[0][0]),
        "what it remembers: state0": shape_of(steps[0][1][0]),
        "Translation.attention": shape_of(translation.attention),
    }


def stated(page: str, *header: str) -> Dict[str, str]:
    """The last cell of each row by the first, of which a comma ends the name."""
    cells = [(row[0].partition(", ")[0], row[-1]) for row in rows(page, *header)]
    assert len(dict(cells)) == len(cells), "two rows have one name"
    return dict(cells)


def test_the_facts_are_those_of_the_run(page, facts):
    assert stated(page, "what", "here") == facts


def test_the_shapes_are_those_of_the_run(page, shapes):
    assert stated(page, "what", "shape", "here") == shapes


def test_the_letters_give_the_shapes(page):
    letters: Dict[str, int] = {}
    for names, values, _ in rows(page, "letter", "here", "meaning"):
        letters.update(zip(names.split(", "), map(int, values.split(", "))))
    shapes = rows(page, "what", "shape", "here")
    for what, shape, here in shapes:
        assert str(eval(shape.replace("·", "*"), {}, letters)) == here, what
    used = set(re.findall(r"[A-Za-z]", " ".join(shape for _, shape, _ in shapes)))
    assert used == set(letters)


def test_the_pieces_are_the_tokens(page):
    pieces = stated(page, "what", "here")["pieces/train.en"].split()
    _, tokens = ast.literal_eval(stated(page, "what", "shape", "here")["net_input.src_tokens"])
    assert f"{len(pieces)} pieces and the end of the sentence are S = {tokens} tokens" in page
    assert tokens == len(pieces) + 1
