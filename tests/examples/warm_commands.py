"""Python commands in forks of a process that has imported torch and fairseq already.

    python warm_commands.py FOLDER

writes PROGRAMS to FOLDER/bin, says "ready", and runs what is typed as one of these in a fork: real
processes, which can be killed, without the seconds that the imports take.
"""

import atexit
import contextlib
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

PROGRAMS = ("python", "fairseq-train", "fairseq-generate", "fairseq-interactive", "sacrebleu")
COMMAND = """#!{python} -SE
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
asked = {{"argv": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(connection, [json.dumps(asked).encode()], [1, 2])
code = connection.recv(1)
sys.exit(code[0] if code else 70)
"""


def serve(folder: Path) -> None:
    """Run commands until the process is killed."""
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests.parent), str(tests / "support")]
    import sacrebleu.sacrebleu  # noqa: F401
    import torch
    import torch._dynamo  # optimizers import it
    from fairseq import options  # noqa: F401
    from omegaconf_copies import copies_without_parents

    import caf_dkd_plugin  # noqa: F401

    torch.set_num_threads(1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen()
    (folder / "bin").mkdir()
    for name in PROGRAMS:
        program = folder / "bin" / name
        program.write_text(COMMAND.format(python=sys.executable, address=str(folder / "socket")))
        program.chmod(0o755)
    print("ready", flush=True)
    with copies_without_parents():
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(connection)
                os._exit(0)
            connection.close()
            with contextlib.suppress(ChildProcessError):  # those that have ended are no more
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass


def answer(connection: socket.socket) -> None:
    """Run a command for as long as whoever asked for it lives."""
    message, descriptors, _, _ = socket.recv_fds(connection, 2**20, 2)
    ended, alive = os.pipe()
    worker = os.fork()
    if worker == 0:
        connection.close()
        os._exit(run(json.loads(message), descriptors))
    os.close(alive)
    readable, _, _ = select.select([connection, ended], [], [])
    if ended not in readable:
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))


def run(asked: dict, descriptors: list) -> int:
    """As the command would in a process of its own; the exit code."""
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    command, *arguments = asked["argv"]
    sys.executable = str(Path(command).parent / "python")
    name = Path(command).name
    code = 0
    try:
        if name == "fairseq-train":
            logging.root.handlers.clear()  # it has its own; the others are left what fairseq's import set up
        if name.startswith("fairseq-"):
            sys.argv = asked["argv"]
            importlib.import_module(f"fairseq_cli.{name.partition('-')[2]}").cli_main()
        elif name == "sacrebleu":
            sys.argv = asked["argv"]
            importlib.import_module("sacrebleu.sacrebleu").main()
        elif arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()  # which end the workers of data loaders
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
