"""Pages that are made from the code when the site is built, so that they say what it does.

Settings come from the declarations at each class, commands from their ``--help``, optional extras from
pyproject.toml, and findings are the READMEs of experiments/ with their links led to where the files are.
"""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from sphinx.application import Sphinx

from ptychofno.__main__ import COMMANDS
from ptychofno.config.declared import Hint, Setting, declared
from ptychofno.config.files import RECIPES, Files
from ptychofno.config.limits import expectation

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REFERENCE, FINDINGS = DOCS / "reference", DOCS / "findings"
ALIKE = ("_target_", "defaults")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", lambda _: write())
    return {"parallel_read_safe": True}


def write() -> None:
    pages = {REFERENCE / "settings.md": settings(), REFERENCE / "commands.md": commands()}
    pages[REFERENCE / "extras.md"] = extras()
    for folder in sorted(path.parent for path in ROOT.glob("experiments/*/README.md")):
        pages[FINDINGS / f"{folder.name}.md"] = finding(folder)
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        # An untouched page keeps its time, and is not built again.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# --- settings --------------------------------------------------------------------------------


def settings() -> str:
    files = Files()
    lines = [
        "# Settings",
        "",
        "Every group and every setting, from the declarations in the code. `GROUP=CHOICE` chooses a part,",
        "`SETTING=VALUE` changes one of its settings. `null` means none. A setting whose default is empty",
        "takes the value of the chosen file, or must be given. `python -m ptychofno.train --cfg job` prints",
        "the whole configuration of a run.",
        "",
        "## Top level",
        "",
        *_table("", declared("ptychofno.config.schema.Config") or {}, files.content_of("config")),
    ]
    for group in files.groups:
        if group not in RECIPES:
            lines += ["", *_group(files, group)]
    lines += ["", "## evaluation", "", *_table("evaluation", _nested("Evaluation"), {})]
    for recipe, title in zip(RECIPES, ("Arms", "Studies"), strict=True):
        lines += ["", f"## {title} (`{'' if recipe == 'arm' else '-m '}+{recipe}=…`)", ""]
        lines += ["| choice | what it sets |", "|---|---|"]
        lines += [f"| `{one}` | {_sets(files, f'{recipe}/{one}')} |" for one in files.choices(recipe)]
    return "\n".join(lines) + "\n"


def _nested(name: str) -> dict[str, Setting]:
    return declared(f"ptychofno.config.schema.{name}") or {}


def _group(files: Files, group: str) -> Iterator[str]:
    yield f"## {group}"
    yield ""
    yield "| choice | class | what it sets |"
    yield "|---|---|---|"
    targets: dict[str, None] = {}
    for choice in files.choices(group):
        target = _target(files, f"{group}/{choice}")
        targets |= dict.fromkeys([target] if target else [])
        yield f"| `{choice}` | {f'`{target}`' if target else ''} | {_sets(files, f'{group}/{choice}')} |"
    prefix = group.replace("/", ".")
    if group == "trainer":
        yield from ["", *_table(prefix, _nested("Trainer"), {})]
    if group == "data/layout":
        yield from ["", *_table(prefix, declared("ptychofno.data.settings.MeasuredLayout") or {}, {})]
    for target in targets:
        found = declared(target)
        if meaning := _meaning(target):
            yield from ["", f"**`{target}`**: {meaning}"]
        if found and any(one.doc for one in found.values()):
            yield from ["", *_table(prefix, found, {})]


def _target(files: Files, config: str) -> str:
    """The class that a file names, or one that it builds on."""
    found = (files.content_of(base).get("_target_") for base in files.bases_of(config))
    return str(next((target for target in found if target), ""))


def _meaning(target: str) -> str:
    """The first sentence of a class of ours."""
    if not target.startswith("ptychofno."):
        return ""
    home, _, name = target.rpartition(".")
    doc = inspect.getdoc(pkgutil.resolve_name(f"{home}:{name}")) or ""
    return " ".join(doc.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def _sets(files: Files, config: str) -> str:
    """What a file sets, and which choices it builds on."""
    return ", ".join(
        f"`{key}={value}`" if value else f"`{key}`" for key, value in _said(files, config).items()
    )


def _said(files: Files, config: str) -> dict[str, str]:
    """Settings and choices of a file with their values. What a base sets stands in its place."""
    content = files.content_of(config)
    if content and all(isinstance(one, dict) and "_target_" in one for one in content.values()):
        content = {name: one["_target_"] for name, one in content.items()}
    said: dict[str, str] = {}
    for built_on in (_choice(one) for one in content.get("defaults") or [] if one != "_self_"):
        key, _, value = built_on.partition("=")
        said |= _said(files, key) if key.startswith("base/") else {key: value}
    own = {key: value for key, value in _flat(content) if key.split(".")[0] not in ALIKE}
    return said | {key.removeprefix("hydra.sweeper.params."): value for key, value in own.items()}


def _choice(entry: Any) -> str:
    """An entry of a defaults list as it would be typed."""
    if isinstance(entry, str):
        return entry.split("@")[0].lstrip("/")
    ((group, choice),) = entry.items()
    return f"{group.removeprefix('override ').split('@')[0].lstrip('/')}={choice}"


def _flat(content: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        elif not (above + key).startswith(("hydra.job", "hydra.run", "hydra.sweep.")):
            yield above + key, _shown(value)


def _table(prefix: str, found: dict[str, Setting], values: dict[str, Any]) -> Iterator[str]:
    yield "| setting | accepts | default | meaning |"
    yield "|---|---|---|---|"
    for setting in found.values():
        name = f"{prefix}.{setting.name}" if prefix else setting.name
        default = values.get(setting.name, setting.default if setting.has_default else None)
        known = setting.has_default or setting.name in values
        given = f"`{_shown(default)}`" if known and not isinstance(default, dict) else ""
        meaning = setting.doc.replace("|", "\\|")
        yield f"| `{name}` | {_accepts(setting.hint)} | {given} | {meaning} |"


def _accepts(hint: Hint) -> str:
    if hint.kind is dict or hint.nested:
        return "settings"
    if hint.kind is None:
        return "a part" if not hint.limits else "a value"
    said = expectation(hint).removeprefix("expected ")
    return said.replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def _shown(value: Any) -> str:
    """A value as it would be typed."""
    if isinstance(value, float):
        return f"{value:g}"
    return yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()


# --- commands, extras, findings ----------------------------------------------------------------


def commands() -> str:
    lines = ["# Commands", "", "What `--help` says of each command.", ""]
    for name, what in COMMANDS:
        called = [sys.executable, "-m", f"ptychofno.{name}", "--help"]
        said = subprocess.run(called, check=True, capture_output=True, text=True, env=dict(os.environ))
        lines += [
            f"## {name}",
            "",
            f"{what[0].upper()}{what[1:]}.",
            "",
            "```text",
            said.stdout.rstrip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def extras() -> str:
    """One table of optional extras: name, packages, and the comment above it in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = tomllib.loads(text)["project"]["optional-dependencies"]
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    lines = ["# Optional extras", ""]
    lines += ["`pip install 'ptychofno[NAME]'` installs what an extra needs.", ""]
    lines += ["| extra | packages | for |", "|---|---|---|"]
    for name, needed in packages.items():
        above = re.search(rf"((?:^# .*\n)*)^{re.escape(name)} = ", section, re.MULTILINE)
        why = " ".join(line.strip("# ") for line in above.group(1).splitlines()) if above else ""
        listed = ", ".join(f"`{Requirement(one).name}{_extras(one)}`" for one in needed)
        lines.append(f"| `{name}` | {listed} | {why} |")
    return "\n".join(lines) + "\n"


def _extras(requirement: str) -> str:
    named = sorted(Requirement(requirement).extras)
    return f"[{', '.join(named)}]" if named else ""


def finding(folder: Path) -> str:
    """The README of an experiment as a page of the site."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)#]+)(#[^)]*)?\)", lambda match: _led(folder, match), text)


def _led(folder: Path, match: re.Match[str]) -> str:
    """A link of a README as it must be from docs/findings/; of one that leads out of the site, its words."""
    image, words, target, place = match.groups()
    if target.startswith(("http:", "https:")):
        return match.group(0)
    path = (folder / target).resolve()
    if path.name == "README.md" and path.parent.parent == ROOT / "experiments":
        return f"[{words}]({path.parent.name}.md{place or ''})"
    if path.is_dir() or not path.is_relative_to(ROOT / "experiments"):
        return words
    if path.suffix == ".md":
        return words  # not a page of the site
    return f"{image}[{words}]({os.path.relpath(path, FINDINGS)})"
