"""The commands of README.md, docs/ and examples/ parse, what they name exists, links lead somewhere."""

import argparse
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import sys
from pathlib import Path
from typing import Dict, List
from unittest import mock

import pytest
from fairseq import options
from omegaconf import OmegaConf

from caf_dkd_plugin.__main__ import COMMANDS
from caf_dkd_plugin.data import stored_rows
from caf_dkd_plugin.evaluation import image_awareness

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
SCRIPTS = sorted(ROOT.glob("examples/**/*.sh"))

PARSERS = {
    "fairseq-preprocess": options.get_preprocessing_parser,
    "fairseq-train": options.get_training_parser,
    "fairseq-validate": options.get_validation_parser,
    "fairseq-generate": options.get_generation_parser,
    "fairseq-interactive": options.get_interactive_generation_parser,
}
NEED_BATCH_SIZE = ("fairseq-train", "fairseq-validate")
HYDRA_GROUPS = {"task", "model", "criterion", "optimizer", "lr_scheduler"}
"""whose fields are known to hydra only where a YAML has them"""
KEYWORDS = {"do", "then", "else", "if", "!", "time"}
PLACEHOLDER = "1"  # a word that is also a number


# -- shell ----------------------------------------------------------------------------------------


def shell_blocks(page: Path) -> List[str]:
    return re.findall(r"^```(?:bash|sh)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def expand(text: str, variables: Dict[str, str]) -> str:
    """Replace "$NAME", "${NAME:-default}", "$(command)" and the like."""

    def value(match):
        name, default = match["braced"] or match["plain"], match["default"]
        if name in variables:
            return variables[name]
        return default if match["operator"] in (":-", "-", ":=") else PLACEHOLDER

    text = text.replace('"$@"', "").replace("$@", "").replace("2>&1", "")
    for _ in range(5):  # defaults may hold variables
        text = re.sub(
            r"\$\(sed 's/#\.\*//' ([^()]*)\)", lambda m: settings_of(m[1], variables), text
        )
        text = re.sub(r"\$\([^()]*\)", PLACEHOLDER, text)
        text = re.sub(r'"?\$\{(\w+)\[@\]\}"?', lambda match: variables[match[1]], text)
        text = re.sub(
            r"\$\{(?P<braced>\w+)(?P<operator>:?[-=?+])?(?P<default>[^{}]*)\}|\$(?P<plain>\w+)",
            value,
            text,
        )
    return text


def settings_of(files: str, variables: Dict[str, str]) -> str:
    """The flags in option files, of which `sed` has taken the comments."""
    paths = [ROOT / path for path in shlex.split(expand(files, variables))]
    lines = "\n".join(path.read_text(encoding="utf-8") for path in paths).splitlines()
    return shlex.join(word for line in lines for word in line.partition("#")[0].split())


def commands_of(script: str) -> List[List[str]]:
    """The simple commands of a script, as lists of words."""
    variables: Dict[str, str] = {}
    for name, words in re.findall(r"^(\w+)=\(\n?(.*?)\)$", script, re.MULTILINE | re.DOTALL):
        variables[name] = " ".join(words.split())
    script = re.sub(r"^\w+=\(.*?\)$", "", script, flags=re.MULTILINE | re.DOTALL)
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(expand(line, variables), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: List[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            while words and (words[0] in KEYWORDS or re.match(r"\w+=", words[0])):
                first = words.pop(0)
                if "=" in first:
                    variables.update([first.split("=", 1)])
            if words:
                found.append(words)
            words = ["<redirected>"] if set(word) & set("<>") else []
    return [words for words in found if words[0] != "<redirected>"]


def parse_fairseq(words: List[str]):
    with mock.patch.object(sys, "argv", words):
        parser = PARSERS[words[0]]()
        if words[0] == "fairseq-preprocess":  # has no positional argument until a task adds one
            parser.parse_args(words[1:])
            return
        args = options.parse_args_and_arch(parser, input_args=words[1:])
    if words[0] in NEED_BATCH_SIZE:
        assert args.max_tokens or args.batch_size, "--max-tokens or --batch-size is needed"


class Parsed(Exception):
    pass


def parse_python(path: Path, arguments: List[str]) -> None:
    """Run a script of ours up to where it has parsed its arguments."""

    def parse_and_stop(self, args=None, namespace=None):
        parse_args(self, args, namespace)
        raise Parsed

    parse_args = argparse.ArgumentParser.parse_args
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with (
        mock.patch.object(sys, "path", [str(path.parent), *sys.path]),
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop),
    ):
        spec.loader.exec_module(module)
        with pytest.raises(Parsed):
            module.main(arguments)


def check_overrides(path: Path, overrides: List[str]) -> None:
    """Has each of hydra's overrides a + if and only if the YAML lacks its field?

    Raises:
        AssertionError: no; hydra would not take it.
    """
    config = OmegaConf.load(path)
    for override in overrides:
        name = override.partition("=")[0]
        field = name.lstrip("+")
        open_group = field.partition(".")[0] in HYDRA_GROUPS
        lacking = open_group and OmegaConf.select(config, field) is None
        assert name.startswith("+") == lacking, f"{override}, and {path.name} says otherwise"


def check(words: List[str]) -> bool:
    """Parse a command; False where it is none of ours.

    Raises:
        AssertionError, SystemExit: it does not parse, or names a file that is not there.
    """
    if words[0] in PARSERS:
        parse_fairseq(words)
        return True
    if words[0] == "fairseq-hydra-train":  # tests/test_hydra.py runs the YAMLs
        folder, name = (
            words[words.index("--config-dir") + 1],
            words[words.index("--config-name") + 1],
        )
        path = ROOT / folder / f"{name}.yaml"
        assert path.is_file(), f"{folder} has no {name}.yaml"
        check_overrides(path, [word for word in words[1:] if "=" in word])
        return True
    if words[:3] == ["python", "-m", "caf_dkd_plugin"]:
        module, _ = COMMANDS[words[3]]
        importlib.import_module(f"caf_dkd_plugin.{module}").parse_args(words[4:])
        return True
    scripts = [word for word in words[:2] if word.endswith((".py", ".sh"))]
    if not scripts:
        return False
    path = ROOT / scripts[0]
    assert path.is_file(), f"{scripts[0]} does not exist"
    if path.suffix == ".py":
        parse_python(path, words[words.index(scripts[0]) + 1 :])
    return True


def documented():
    for path in SCRIPTS:
        yield path, path.read_text()
    for page in PAGES:
        # The blocks of a page follow each other: variables of one hold in the next.
        yield page, "\n".join(shell_blocks(page))


@pytest.mark.parametrize(
    ("path", "script"),
    [pytest.param(*pair, id=str(pair[0].relative_to(ROOT))) for pair in documented()],
)
def test_every_command_parses(path, script, monkeypatch):
    monkeypatch.chdir(ROOT)
    checked = 0
    for words in commands_of(script):
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                checked += check(words)
        except (SystemExit, AssertionError) as error:
            reason = errors.getvalue().splitlines()[-1:] or str(error).splitlines()[:1]
            pytest.fail(f"{path}: {shlex.join(words)}\n{reason[0]}")
    assert checked or path.suffix != ".sh"


def test_readme_shows_every_fairseq_command():
    names = {words[0] for words in commands_of("\n".join(shell_blocks(ROOT / "README.md")))}
    assert set(PARSERS) <= names


# -- links ----------------------------------------------------------------------------------------


def anchors_of(page: Path) -> List[str]:
    """What a page's headings are called in links, as GitHub does it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings]


def dead_links(page: Path, text: str) -> List[str]:
    """The links of a page's text to files or headings that are not there."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_every_link_leads_somewhere(page):
    assert not dead_links(page, page.read_text())


def test_a_dead_link_is_noticed():
    text = "[a](LICENSE) [b](#two-commands) [c](docs/none.md) [d](docs/options.md#none) [e](#none)"
    assert dead_links(ROOT / "README.md", text) == ["docs/none.md", "docs/options.md#none", "#none"]


def test_every_page_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [page for page in ROOT.glob("docs/*.md") if f"](docs/{page.name})" not in readme] == []


# -- figures that are also in the code -------------------------------------------------------------


@pytest.fixture(scope="module")
def defaults(load_script):
    """What programs do unless they are told otherwise."""
    cache = load_script("cache_teacher").parse_args(
        ["data", "--teacher-path", "teacher.pt", "--output", "teacher.h5"]
    )
    awareness = image_awareness.parse_args(["data", "--path", "x.pt", "--image-h5", "x.h5"])
    numbers = {1: "one", 3: "three", 5: "five", 10: "ten"}
    return {
        "tail_rank": str(cache.tail_rank),
        "topk": str(cache.topk),
        "derangements": numbers[awareness.derangements],
        "mapped": str(stored_rows.MAPPED_BYTES // 2**20),
    }


@pytest.mark.parametrize(
    ("page", "figure", "text"),
    [
        ("docs/teachers.md", "tail_rank", r"at most (\d+) numbers \(`--tail-rank`"),
        ("docs/teachers.md", "topk", r"wrote teacher\.h5: .* the best (\d+) of"),
        ("docs/teachers.md", "tail_rank", r"wrote teacher\.h5: .* the others in (\d+) numbers"),
        ("README.md", "derangements", r"with wrong ones \((\w+) seeded derangements"),
        ("README.md", "mapped", r"at most (\d+) MiB of each of its files are mapped"),
        ("docs/speed.md", "mapped", r"Stores larger than (\d+) MiB are not mapped"),
    ],
)
def test_a_documented_default_is_that_of_the_code(page, figure, text, defaults):
    found = re.findall(text, (ROOT / page).read_text(encoding="utf-8"))
    assert found == [defaults[figure]]


# -- the reader of shell scripts itself -----------------------------------------------------------


def test_shell_is_read_as_bash_does():
    script = """
# fairseq-train in a comment
WORK=${WORK:-here}   # and after a command
CHECKPOINT=${1:-$WORK/model.pt}
COMMON=(
    --beam 5
)
mkdir -p "$WORK" && LANG=C fairseq-generate "$WORK/bin" \\
    --path "$CHECKPOINT" "${COMMON[@]}" --seed $SEED \\
    "$@" > "$WORK/out" 2>&1
for x in a b; do fairseq-score --sys "it's $x"; done
"""
    assert commands_of(script) == [
        ["mkdir", "-p", "here"],
        shlex.split("fairseq-generate here/bin --path here/model.pt --beam 5 --seed 1"),
        ["for", "x", "in", "a", "b"],
        ["fairseq-score", "--sys", "it's 1"],
        ["done"],
    ]


@pytest.mark.parametrize(
    "command",
    [
        "fairseq-train data --user-dir caf_dkd_plugin --arch lstm --max-tokens 9 --image-h6 x",
        "fairseq-train data --user-dir caf_dkd_plugin --task multimodal_translation --arch cross_modal_rnn",
        "fairseq-generate data --path x --beams 5",
        "python preprocess/extract_features.py --images x --output y --no-such-option",
        "bash examples/none.sh",
        "fairseq-hydra-train --config-dir examples/multi30k/configs --config-name none",
        "fairseq-hydra-train --config-dir examples/multi30k/configs --config-name teacher +task.data=x",
        "fairseq-hydra-train --config-dir examples/multi30k/configs --config-name teacher model.x=1",
        "fairseq-hydra-train --config-dir examples/multi30k/configs --config-name teacher +common.seed=1",
        "python -m caf_dkd_plugin average --inputs x --outputs y",
        "python -m caf_dkd_plugin evaluate --references x --system a y",
        "python -m caf_dkd_plugin plot-attention data --path x --image-h5 y --output z --sentences a",
    ],
)
def test_a_mistake_is_noticed(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises((SystemExit, AssertionError)):
        check(shlex.split(command))
