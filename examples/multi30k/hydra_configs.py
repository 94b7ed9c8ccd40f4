"""Write the YAMLs for fairseq-hydra-train from the option files.

    python examples/multi30k/hydra_configs.py

writes configs/teacher.yaml, and for each size configs/student-SIZE-text.yaml and
configs/student-SIZE.yaml, which goes on from it with images: what train_teacher.sh and train_student.sh
do with the paths of docs/multi30k.md. A setting is changed in its option file, never there.
"""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "caf_dkd_plugin" / "quiet_start.py"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment_grid import SIZES
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from option_files import CONFIGS, read_options
from step_commands import SOURCE, TARGET

import caf_dkd_plugin  # noqa: F401  registers what the option files name

GROUPS = (
    *("common", "task", "model", "criterion", "optimizer", "lr_scheduler"),
    *("optimization", "dataset", "checkpoint"),
)
"""of fairseq's settings, in the order of the YAMLs"""
COMPONENTS = {
    "task": "task",
    "model": "arch",
    "criterion": "criterion",
    "optimizer": "optimizer",
    "lr_scheduler": "lr-scheduler",
}
"""groups with a _name -> the flag that says it"""
TEXT = "-text"
"""ends the name of a student without images, from which the one with images goes on"""
HYDRA = {"run": {"dir": "."}, "output_subdir": None}
"""paths are relative to where the command is typed"""


def training_words(name: str) -> List[str]:
    """What the script of a YAML gives to fairseq-train."""
    data, save, files = "teacher-data", "teacher", ["teacher.options"]
    inputs: List[str] = []
    images: List[str] = []
    if name != "teacher":
        size = name.removeprefix("student-").removesuffix(TEXT)
        other = "" if size == "1k" else f"-{size}"
        data, save, files = f"student-data{other}", f"student{other}", [f"{size}.options"]
        inputs = ["--teacher-path", "multi30k/teacher/checkpoint_best.pt"]
        if name.endswith(TEXT):
            save += TEXT
        else:
            files += ["image.options", "going-on.options"]
            inputs += ["--image-h5", "multi30k/images.h5"]
            inputs += ["--init-from", f"multi30k/{save}{TEXT}/checkpoint_best.pt"]
            images = [
                "--valid-subset",
                "valid",
            ]  # the release has no split whose lines all have images
    return [
        *(f"multi30k/{data}", "--user-dir", "caf_dkd_plugin"),
        *("--task", "multimodal_translation", "--source-lang", SOURCE, "--target-lang", TARGET),
        *inputs,
        *(word for file in files for word in read_options(CONFIGS / file)),
        *images,
        *("--seed", "1", "--save-dir", f"multi30k/{save}"),
        *("--log-format", "simple", "--log-interval", "100"),
    ]


def as_groups(words: Sequence[str]) -> Dict[str, Dict[str, object]]:
    """The settings that are typed, and only they, by fairseq's groups."""
    parsed = options.parse_args_and_arch(options.get_training_parser(), input_args=list(words))
    cfg = OmegaConf.to_container(
        convert_namespace_to_omegaconf(parsed), resolve=True, enum_to_str=True
    )
    typed = {word[2:].replace("-", "_") for word in words if word.startswith("--")} | {"data"}
    named = {flag.replace("-", "_") for flag in COMPONENTS.values()}
    # A component may have a field that is another group's, by interpolation: that group is its home.
    shared = {key for group in GROUPS if group not in COMPONENTS for key in cfg[group]}
    found: Dict[str, Dict[str, object]] = {}
    for group in GROUPS:
        name = {"_name": cfg[group]["_name"]} if group in COMPONENTS else {}
        wanted = typed - named - (shared if group in COMPONENTS else set())
        found[group] = {**name, **{key: cfg[group][key] for key in cfg[group] if key in wanted}}
    return found


def as_yaml(name: str) -> str:
    """The text of a YAML."""
    head = [
        f"# For fairseq-hydra-train, written by hydra_configs.py from the option files of {name}.",
        "# From the repository's root:",
        f"#   fairseq-hydra-train --config-dir examples/multi30k/configs --config-name {name}",
    ]
    blocks = {"hydra": HYDRA, **as_groups(training_words(name))}
    body = [OmegaConf.to_yaml(OmegaConf.create({key: value})) for key, value in blocks.items()]
    return "\n".join([*head, "", "\n".join(body)])


NAMES = ("teacher", *(f"student-{size}{part}" for size in SIZES for part in (TEXT, "")))
"""of the YAMLs"""


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.parse_args(argv)
    for name in NAMES:
        path = CONFIGS / f"{name}.yaml"
        path.write_text(as_yaml(name), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
