"""Tables, statistics, figures and verdict: ``python -m ptychofno.report outputs/stage_a``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.display.text import make_console
from ptychofno.runs import artifacts

PAGE, ROWS = "report.html", "report.csv"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.report",
        description="Compare the arms of a study: which are stable, how good they are, and how sure that is.",
        epilog=f"Writes {PAGE} for people and {ROWS}, one line per run.",
    )
    add = parser.add_argument
    add(
        "directories",
        metavar="DIRECTORY",
        nargs="+",
        type=Path,
        help="where runs are, at any depth, and reconstructions from a flat object as references",
    )
    add("--control", metavar="ARM", help="the arm that others are compared with (default: control)")
    add("--output", metavar="DIR", type=Path, help="where to write (default: the one DIRECTORY given)")
    anyway = "rank arms even where seeds are missing or code versions differ"
    add("--anyway", action="store_true", help=anyway)
    args = parser.parse_args(argv)
    with exit_codes():
        report(args.directories, args.output, args.control, args.anyway)


def report(directories: Sequence[Path], output: Path | None, control: str | None, anyway: bool) -> None:
    """Read, rank, write, show in the terminal. Raises ConfigError for a mistake of the user."""
    from ptychofno.report.page import page
    from ptychofno.report.study import load
    from ptychofno.report.tables import comma_separated, show

    if output is None and len(directories) > 1:
        raise ConfigError(f"{len(directories)} directories are given: say with --output DIR where to write")
    where = output or directories[0]
    study = load(directories, control, anyway)
    try:
        artifacts.write_text(where / ROWS, comma_separated(study))
        artifacts.write_text(where / PAGE, page(study))
    except OSError as error:
        raise ConfigError(f"--output={where}: cannot be written: {error.strerror}") from None
    console = make_console()
    if not console.is_terminal:
        console.width = 160
    show(console, study)
    console.print()
    console.print(f"{where / PAGE}, and beside it {ROWS}", soft_wrap=True)


if __name__ == "__main__":
    main()
