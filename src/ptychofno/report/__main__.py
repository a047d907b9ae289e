"""Tables, statistics, figures and verdict: ``python -m ptychofno.report outputs/stage_a``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.display.text import make_console
from ptychofno.runs import artifacts

PAGE, TEXT, ROWS, VALUES = "report.html", "report.md", "report.csv", "report.json"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.report",
        description="Compare the arms of a study: which are stable, how good they are, and how sure that is.",
        epilog=f"Writes {PAGE}, {TEXT}, {ROWS} and {VALUES}.",
    )
    parser.add_argument(
        "directories",
        metavar="DIRECTORY",
        nargs="+",
        type=Path,
        help="where runs are, at any depth, and reconstructions from a flat object as references",
    )
    parser.add_argument(
        "--control", metavar="ARM", help="the arm that others are compared with (default: control)"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to write (default: the one DIRECTORY given)"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="rank arms even where seeds are missing or code versions differ"
    )
    args = parser.parse_args(argv)
    with exit_codes():
        report(args.directories, args.output, args.control, args.anyway)


def report(directories: Sequence[Path], output: Path | None, control: str | None, anyway: bool) -> None:
    """Read, rank, write, show in the terminal. Raises ConfigError for a mistake of the user."""
    from ptychofno.report import tables
    from ptychofno.report.page import page
    from ptychofno.report.study import load
    from ptychofno.report.terminal import show

    if output is None and len(directories) > 1:
        raise ConfigError(f"{len(directories)} directories are given: say with --output DIR where to write")
    where = output or directories[0]
    study = load(directories, control, anyway)
    try:
        artifacts.write_text(where / TEXT, tables.markdown(study))
        artifacts.write_text(where / ROWS, tables.comma_separated(study))
        artifacts.write_json(where / VALUES, tables.as_values(study))
        artifacts.write_text(where / PAGE, page(study))
    except OSError as error:
        raise ConfigError(f"--output={where}: cannot be written: {error.strerror}") from None
    console = make_console()
    if not console.is_terminal:
        console.width = 160
    show(console, study)
    console.print()
    console.print(f"{where / PAGE}, and beside it {TEXT}, {ROWS} and {VALUES}", soft_wrap=True)


if __name__ == "__main__":
    main()
