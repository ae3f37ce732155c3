"""The command's first moments."""

import builtins

import pytest

from lab.__main__ import main


def test_an_interruption_while_it_loads_is_no_fault(monkeypatch, capsys):
    load = builtins.__import__

    def interrupted(name, *rest):
        if name == "lab.cli.main":
            raise KeyboardInterrupt
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")
