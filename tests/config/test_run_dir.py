"""The name of a run's directory says what the run is, once and for all."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ptychofno.config.composition import compose
from ptychofno.runs.comparison import LONGEST_SUFFIX, default_run_dir


def suffix(*overrides: str) -> str:
    path = default_run_dir("control", 3, overrides)
    assert path.startswith("outputs/control/control-seed3")
    return path.removeprefix("outputs/control/control-seed3").removeprefix("-")


def test_names() -> None:
    assert default_run_dir(None, 0, []) == "outputs/default/default-seed0"
    assert suffix("+arm=control", "seed=3") == ""
    assert suffix("optimizer.lr=2e-4") == "optimizer.lr=0.0002"
    assert suffix("model/block=layerscale", "clip=none") == "clip=none,model.block=layerscale"


def test_what_does_not_change_a_result_is_not_named() -> None:
    unnamed = ["run_dir=x", "resume=never", "data.cache_dir=/tmp", "trainer.accelerator=cpu", "logger=none"]
    assert suffix(*unnamed, "logger.name=none", "infer_batch_size=3", "trainer.num_threads=1") == ""


def test_order_and_spelling_do_not_matter() -> None:
    assert suffix("clip=none", "optimizer.lr=2e-4") == suffix("optimizer.lr=0.0002", "clip=none")
    assert suffix("optimizer={lr: 2e-4}") == suffix("optimizer.lr=2e-4")
    assert suffix("seed=1", "clip=agc", "clip=none") == suffix("clip=none")


def test_what_no_file_name_can_hold_is_told_apart_by_a_hash() -> None:
    names = {suffix(f"data.path={path}") for path in ("a/b", "a_b", "'a b'", "a.b")}
    assert len(names) == 4
    assert "data.path=a_b" in names and "data.path=a.b" in names


keys = st.sampled_from(["optimizer.lr", "data.path", "clip", "model/block", "trainer.max_epochs", "x.y"])
values = st.one_of(
    st.integers(-5, 5),
    st.text("ab/_.- ,", min_size=1, max_size=60).map(lambda text: f"'{text}'"),
    st.lists(st.integers(0, 3), max_size=40).map(lambda entries: str(entries).replace(" ", "")),
)
override_sets = st.dictionaries(keys, values, max_size=5)


@given(override_sets, override_sets)
def test_different_overrides_never_share_a_directory(
    first: dict[str, object], second: dict[str, object]
) -> None:
    names = [suffix(*(f"{k}={v}" for k, v in chosen.items())) for chosen in (first, second)]

    def meaning(chosen: dict[str, object]) -> dict[str, str]:
        return {key: str(value).strip("'") for key, value in chosen.items()}

    assert (names[0] == names[1]) == (meaning(first) == meaning(second))
    for name in names:
        assert len(name) <= LONGEST_SUFFIX
        assert re.fullmatch(r"[\w.,+=-]*", name)


def test_composed_run_dirs() -> None:
    assert compose(["+arm=agc", "optimizer.lr=2e-4", "seed=7"]).run_dir == (
        "outputs/agc/agc-seed7-optimizer.lr=0.0002"
    )
    assert compose(["+arm=agc", "run_dir=here/x-${seed}"]).run_dir == "here/x-20260128"
