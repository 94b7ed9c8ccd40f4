import importlib

import pytest

import caf_dkd_plugin
from caf_dkd_plugin.__main__ import COMMANDS, main


def test_without_a_command_it_prints_the_folder_and_nothing_else(root, capsys):
    assert main([]) == 0
    assert capsys.readouterr() == (f"{root / 'caf_dkd_plugin'}\n", "")


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name, (_, purpose) in COMMANDS.items():
        assert name in text
        assert purpose in text


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_own_parser(name, capsys):
    assert hasattr(
        importlib.import_module(f".{COMMANDS[name][0]}", caf_dkd_plugin.__name__), "main"
    )
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: python -m caf_dkd_plugin {name} " in capsys.readouterr().out


def test_the_exit_code_is_the_commands(tmp_path, capsys):
    missing = str(tmp_path / "none.pt")
    assert main(["average", "--inputs", missing, "--output", str(tmp_path / "x.pt")]) == 1
    assert missing in capsys.readouterr().err


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["averag"])
    assert end.value.code == 2
    assert "invalid choice: 'averag'" in capsys.readouterr().err
