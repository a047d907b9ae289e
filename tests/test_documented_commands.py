"""No page is stale: each command composes, its flags and scripts are there, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from string import Template

import pytest

from ptychofno.__main__ import COMMANDS
from ptychofno.config.composition import compose

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/tutorials/*.md")),
    *sorted(ROOT.glob("experiments/*/README.md")),
]
NAMES = {name for name, _ in COMMANDS}
FOLLOWED_BY_A_WORD = {"--config-dir", "--cfg"}


def commands_of(text: str) -> list[list[str]]:
    """The words of every command that starts python in an indented block, a cell of bash or within a text.

    Shell variables that the block sets are put in their place, and a loop is taken at its first turn.
    """
    blocks = re.findall(r"(?:^ {4}.*\n?|^\n)+", text, re.MULTILINE)
    blocks += re.findall(r"%%bash\n(.*?)```", text, re.DOTALL)
    blocks += [" ".join(words.split()) for words in re.findall(r"`(python -m ptychofno\.[^`]*)`", text)]
    found = []
    for block in blocks:
        known: dict[str, str] = {}
        for line in re.sub(r"\\\n", " ", block).splitlines():
            line = Template(line.strip()).safe_substitute(known)
            if turn := re.match(r"for (\w+) in (\S+)", line):
                name, first = turn.groups()
                known[name] = re.sub(r"\{(.*?),.*?\}", r"\1", first)
                line = Template(line.partition("; do ")[2].removesuffix("; done")).safe_substitute(known)
            if assigned := re.match(r'(\w+)="(.*)"$', line):
                known[assigned.group(1)] = assigned.group(2)
            elif re.match(r"(\$ )?(\w+=\S+ )*(\S*/)?python ", line) and "python -c" not in line:
                words = shlex.split(line.removeprefix("$ "), comments=True)
                found.append(words[next(i for i, word in enumerate(words) if word.endswith("python")) + 1 :])
    return found


EVERY = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, words in enumerate(commands_of(page.read_text(encoding="utf-8")))
]


@cache
def help_of(command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", f"ptychofno.{command}", "--help"], check=True, capture_output=True, text=True
    ).stdout


def first_of_a_sweep(override: str) -> str:
    key, _, value = override.partition("=")
    return override if value.startswith(("[", "{")) else f"{key}={value.split(',')[0]}"


def settings_among(words: list[str]) -> list[str]:
    """Settings that can be composed here: nothing of launchers and sweepers, and one value of a sweep."""
    typed = [word for word in words if "=" in word and not word.startswith(("-", "hydra", "epoch="))]
    return [first_of_a_sweep(word) for word in typed if "(" not in word and "…" not in word]


@pytest.mark.parametrize("words", EVERY)
def test_a_documented_command_is_not_stale(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if words[0] != "-m":
        assert Path(words[0]).is_file()
        return
    command = words[1].removeprefix("ptychofno.")
    if words[1] == command:
        return  # another module's
    assert command in NAMES
    for flag in (word for word in words[2:] if word.startswith("--") and command != "train"):
        assert flag in help_of(command)
    config_dir = words[words.index("--config-dir") + 1] if "--config-dir" in words else None
    if config_dir == "mylab" or "optimizer.lrr=1" in words:
        return  # test_extension has the README's own part; the other one shows a refusal
    if command in ("train", "reconstruct"):
        compose(settings_among(words), config_dir=config_dir)


def test_there_are_commands_to_check() -> None:
    assert len(EVERY) > 80


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, place in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve() if target else page
        if target.startswith("http") or path.parent == ROOT / "docs/reference":
            continue  # made from the code when the site is built
        if path.parent == ROOT / "docs/findings":
            path = ROOT / "experiments" / path.stem / "README.md"
        assert path.exists(), target
        headings = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8")) if place else []
        assert not place or place in map(slug, headings), f"{target}#{place}"
