"""The command's first moments: Ctrl-C while it is still being imported."""

import os

import pytest
from cli_helpers import PROGRAM, command

SCRIPT = ("-c", "import sys; from f1buf.__main__ import main; sys.exit(main())")  # as pip writes it
INTERRUPTING = """
import signal
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize("program", [PROGRAM, SCRIPT], ids=["-m", "script"])
@pytest.mark.parametrize(
    "name", ["f1buf.command.cli", "numpy", "f1buf.ring.ring", "f1buf.telemetry.sources.game.listen"]
)
def test_ctrl_c_while_the_command_is_imported(tmp_path, program, name):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING.format(name=name))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = command("run", "--count", 1, program=program, env={"PYTHONPATH": path})
    assert (done.status, done.out, done.err) == (130, "", "")
