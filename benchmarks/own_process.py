"""A side in a process of its own, as a user would run it."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import List

import torch


class OwnProcess:
    """Trains in a process of its own, and says how fast a round was in target words/s.

    Our task changes how its whole process allocates memory; another side must not profit from it.

    Args:
        words: fairseq-train's command line, without the program's name.
        steps: updates in a round.
    """

    def __init__(self, words: List[str], steps: int):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_train, args=(words, steps, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self) -> float:
        """Run a round.

        Raises:
            EOFError: the process has failed; it has said why on the standard error.
        """
        self._connection.send("round")
        return self._connection.recv()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


def _train(words: List[str], steps: int, asked: Connection) -> None:
    # fairseq takes seconds to import, which the process that only asks is spared
    from fairseq_training import Training
    from rounds import cpu_clock, speed

    torch.set_num_threads(1)
    training = Training(words)
    side = speed(lambda: training.steps(steps), cpu_clock)
    try:
        while asked.recv():
            asked.send(side())
    except EOFError:
        pass  # nobody asks any more
