"""%%bash of the tutorials: what the commands print arrives in one piece and without a terminal's colours."""

import os
import subprocess
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    shell.register_magic_function(_bash, magic_kind="cell", magic_name="bash")


def _bash(line: str, cell: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "CLICOLOR")}
    done = subprocess.run(
        ["bash", "-ec", cell],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    print(done.stdout.rstrip())
    done.check_returncode()
