"""Source sentences besides a student's own lines, and the pairs that the teachers make of them.

In data/SIZE-EXTRA the student's own lines are ``train`` and these pairs ``train1``; fairseq reads both.
They have no images.
"""

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from step_commands import (
    ALL_LINES,
    BEAM,
    SOURCE,
    TARGET,
    Step,
    in_shared_subwords,
    prepare,
    shell,
    work,
)

SUBSTITUTED = "substituted"
"""the size's own sources with words of the whole training set's sources in the place of their own"""
UNTRANSLATED = "untranslated"
"""the sources of all training lines that the size does not have; their translations are not read"""
SEED = 1
"""of the substitution; the same for students of all seeds"""


class ExtraSources(NamedTuple):
    """One kind of them for a size; all students that have it share it."""

    size: str
    kind: str
    """SUBSTITUTED or UNTRANSLATED"""

    @property
    def name(self) -> str:
        """Of the training set with these pairs."""
        return f"{self.size}-{self.kind}"

    @property
    def _folder(self) -> str:
        return f"synthetic/{self.name}"

    @property
    def _sentences(self) -> str:
        return f"{self._folder}/source.{SOURCE}"

    @property
    def _pairs(self) -> str:
        return f"{self._folder}/text/train"

    def most_pairs(self, pairs: int, lines: int, copies: int) -> int:
        """How many they can become.

        Args:
            pairs: of the size.
            lines: of the whole training set.
            copies: of each sentence, with other words.
        """
        return copies * pairs if self.kind == SUBSTITUTED else lines - pairs

    def pairs_made(self, folder: Path) -> Optional[int]:
        """How many there are in a WORK; None as long as there are none."""
        path = folder / f"{self._pairs}.{SOURCE}"
        return path.read_bytes().count(b"\n") if path.exists() else None

    def steps(
        self, checkpoints: Sequence[str], taught_by: Sequence[str], copies: int
    ) -> List[Step]:
        """From the training sets and the teachers to the training set with these pairs.

        Args:
            checkpoints: of the teachers, which are averaged in probability, in WORK.
            taught_by: names of the steps after which these are there.
            copies: of each sentence, with other words.
        """
        source = self._substituted(copies) if self.kind == SUBSTITUTED else self._untranslated()
        translations = f"{self._folder}/translations"
        translate = shell(
            *("fairseq-interactive", work(ALL_LINES), "--user-dir", "caf_dkd_plugin"),
            *("--task", "multimodal_translation"),
            *("--source-lang", SOURCE, "--target-lang", TARGET),
            *("--path", ":".join(map(work, checkpoints)), "--input", work(self._sentences)),
            *("--bpe", "sentencepiece"),
            *("--sentencepiece-model", work(f"{ALL_LINES}/sentencepiece.model")),
            *("--beam", str(BEAM), "--unkpen", "100"),
            *("--buffer-size", "1000", "--max-tokens", "4000"),
        )
        pair = shell(
            *("python", "examples/sequence_level/synthetic_pairs.py", "--drop-empty"),
            *("--translations", work(translations), "--source", work(self._sentences)),
            *("--source-lang", SOURCE, "--target-lang", TARGET, "--output", work(self._pairs)),
        )
        return [
            source,
            Step(
                f"translations.{self.name}",
                f'{translate} > "{work(translations)}"',
                [translations],
                [source.name, *taught_by],
            ),
            Step(
                f"pairs.{self.name}",
                pair,
                [f"{self._folder}/text"],
                [f"translations.{self.name}"],
            ),
            self._training_set(),
        ]

    def _substituted(self, copies: int) -> Step:
        command = shell(
            *("python", "preprocess/substitute_words.py"),
            *("--text", work(f"data/{self.size}/text/train.{SOURCE}")),
            *("--words-from", work(f"{ALL_LINES}/text/train.{SOURCE}")),
            *("--copies", str(copies), "--seed", str(SEED), "--output", work(self._sentences)),
        )
        needs = dict.fromkeys(["data.full", f"data.{self.size}"])
        return Step(f"source.{self.name}", command, [self._sentences], list(needs))

    def _untranslated(self) -> Step:
        others = f"without-{self.size}"
        command = (
            "awk 'NR == FNR { these[$1 + 1]; next } FNR in these' \\\n"
            f'    "{work(others)}.lines" "{work(ALL_LINES)}/text/train.{SOURCE}" \\\n'
            f'    > "{work(self._sentences)}"'
        )
        needs = ["data.full", f"lines.{others}"]
        return Step(f"source.{self.name}", command, [self._sentences], needs)

    def _training_set(self) -> Step:
        """The size's, with these pairs; it is more than was prepared from its settings.json."""
        made, whole = f"{self._folder}/data", f"data/{self.name}"
        lines = [
            prepare(work(self._folder), made, *in_shared_subwords()),
            f'mkdir -p "{work(whole)}"',
            f'cp -r "{work("data")}/{self.size}/." "{work(whole)}"',
            f'rm "{work(whole)}/settings.json"',
            f'for file in "{work(made)}"/train.*; do',
            f'    cp "$file" "{work(whole)}/train1.${{file##*/train.}}"',
            "done",
        ]
        needs = [f"data.{self.size}", f"pairs.{self.name}"]
        return Step(f"data.{self.name}", "\n".join(lines), [made, whole], needs)
