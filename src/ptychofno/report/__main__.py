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
        description="Say which arms of a study are stable, how good they are, and how sure that is.",
        epilog=f"Writes {PAGE}, {TEXT}, {ROWS} and {VALUES}.",
    )
    parser.add_argument(
        "directories", metavar="DIRECTORY", nargs="+", type=Path, help="a study, or single run directories"
    )
    parser.add_argument("--control", metavar="ARM", help="compare with this arm (default: control)")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to write (default: the one DIRECTORY given)"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="rank in spite of missing seeds and different code versions"
    )
    args = parser.parse_args(argv)
    with exit_codes():
        report(args.directories, args.output, args.control, args.anyway)


def report(directories: Sequence[Path], output: Path | None, control: str | None, anyway: bool) -> None:
    """Read, judge, write, show in the terminal. Raises ConfigError for a mistake of the user."""
    from ptychofno.report import tables
    from ptychofno.report.page import page
    from ptychofno.report.study import load
    from ptychofno.report.terminal import show

    if output is None and len(directories) > 1:
        raise ConfigError(f"{len(directories)} directories: say with --output DIR where to write")
    where = output or directories[0]
    study = load(directories, control, anyway)
    try:
        artifacts.write_text(where / TEXT, tables.markdown(study))
        artifacts.write_text(where / ROWS, tables.comma_separated(study))
        artifacts.write_json(where / VALUES, tables.plain_values(study))
        artifacts.write_text(where / PAGE, page(study))
    except OSError as error:
        raise ConfigError(f"--output={where}: cannot be written: {error.strerror}") from None
    console = make_console()
    if not console.is_terminal:
        console.width = 160
    show(console, study)
    console.print()
    console.print(f"{where / PAGE} and {TEXT}, {ROWS}, {VALUES} beside it", soft_wrap=True)


if __name__ == "__main__":
    main()
