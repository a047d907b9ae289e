import dataclasses
import errno
import json
import logging
import multiprocessing
import os
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ptychofno.data import CacheError, PtychoDataset, cache, dataset_key, load_dataset
from ptychofno.data.objects import GridLinesData
from ptychofno.data.probe import ApertureProbe, DatasetProbe, NpzProbe

NOT_OF_THE_DATA = {"name", "cache_dir", "batch_size", "drop_last", "thinning"}
PROBE = ApertureProbe(diameter=0.4, edge_width=0.4, defocus_rad=2.0)


def settings(cache_dir: Path | str, **changes: object) -> GridLinesData:
    small = GridLinesData(
        name="small", cache_dir=str(cache_dir), N=16, size=48, nlines=20, nphotons=1e6, seed=3
    )
    small = replace(small, train_step_px=8, validation_step_px=16, test_step_px=8)
    return replace(small, **changes)


def entry_of(data: GridLinesData) -> Path:
    return Path(data.cache_dir) / f"{data.name}-{dataset_key(data, PROBE)}"


def values(dataset: PtychoDataset) -> dict[str, object]:
    """Every field of a dataset and its splits, the arrays as they are."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(dataset):
        value = getattr(dataset, field.name)
        if dataclasses.is_dataclass(value):
            found |= {
                f"{field.name}.{part.name}": getattr(value, part.name) for part in dataclasses.fields(value)
            }
        else:
            found[field.name] = value
    return found


def assert_same(first: PtychoDataset, second: PtychoDataset) -> None:
    one, other = values(first), values(second)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)  # type: ignore[arg-type]


def simulations(caplog: pytest.LogCaptureFixture) -> int:
    return sum(message.startswith("simulating") for message in caplog.messages)


@pytest.fixture
def data(tmp_path, caplog) -> GridLinesData:
    caplog.set_level(logging.INFO, logger="ptychofno.data")
    return settings(tmp_path / "datasets")


# --- hits ------------------------------------------------------------------------------------


def test_second_load_reads_what_the_first_one_wrote(data, caplog):
    first, second = load_dataset(data, PROBE), load_dataset(data, PROBE)
    assert simulations(caplog) == 1
    assert "using cached dataset" in caplog.messages[-1]
    assert_same(first, second)
    assert_same(first, cache._generate(Path("x"), first.key, data, PROBE, lambda done, count: None))
    assert second.name == "small" and second.key == dataset_key(data, PROBE)


def test_arrays_are_read_only_memory_maps(data):
    dataset = load_dataset(data, PROBE)
    arrays = {name: value for name, value in values(dataset).items() if isinstance(value, np.ndarray)}
    assert len(arrays) == 12
    for name, array in arrays.items():
        assert isinstance(array, np.memmap) and not array.flags.writeable, name


def test_hit_takes_no_lock_and_writes_nothing(data, monkeypatch):
    load_dataset(data, PROBE)
    for lock in Path(data.cache_dir).glob(".*.lock"):
        lock.unlink()
    before = sorted(Path(data.cache_dir).rglob("*"))

    def refuse(*_: object) -> None:
        raise AssertionError("a hit needs no lock")

    monkeypatch.setattr(cache, "FileLock", refuse)
    load_dataset(data, PROBE)
    assert sorted(Path(data.cache_dir).rglob("*")) == before


def test_miss_in_a_read_only_directory_names_it(data, monkeypatch):
    class RefusedLock:
        def __init__(self, *_: object) -> None:
            pass

        def acquire(self, **_: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(cache, "FileLock", RefusedLock)
    with pytest.raises(
        CacheError, match=rf"data\.cache_dir={re.escape(data.cache_dir)}: .*Read-only"
    ) as caught:
        load_dataset(data, PROBE)
    assert "\n" not in str(caught.value)


def test_manifest_describes_the_entry(data):
    dataset = load_dataset(data, PROBE)
    manifest = json.loads((entry_of(data) / "manifest.json").read_text())
    assert manifest["key"] == dataset.key
    assert manifest["generator_version"] == cache.GENERATOR_VERSION
    in_key = {field.name for field in dataclasses.fields(data)} - NOT_OF_THE_DATA
    assert manifest["data"] == {"kind": "grid_lines", **{name: getattr(data, name) for name in in_key}}
    assert manifest["probe"] == {"name": "aperture", **dataclasses.asdict(PROBE)}
    assert manifest["scalars"]["photon_scale"] == dataset.photon_scale
    on_disk = {path.name for path in entry_of(data).iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == on_disk
    described = manifest["files"]["train_amplitude.npy"]
    assert described["shape"] == list(dataset.train.amplitude.shape) and described["dtype"] == "float32"
    assert described["size"] == (entry_of(data) / "train_amplitude.npy").stat().st_size


# --- key -------------------------------------------------------------------------------------


def changed(value: object) -> object:
    if value is None:
        return 0.5
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    assert isinstance(value, (int, float))
    return value + 1


@pytest.mark.parametrize("field", dataclasses.fields(GridLinesData), ids=lambda field: field.name)
def test_key_follows_exactly_the_settings_that_change_the_data(field):
    data = settings("somewhere")
    before = dataset_key(data, PROBE)
    setattr(data, field.name, changed(getattr(data, field.name)))
    assert (dataset_key(data, PROBE) != before) == (field.name not in NOT_OF_THE_DATA)


@pytest.mark.parametrize("field", dataclasses.fields(ApertureProbe), ids=lambda field: field.name)
def test_key_follows_the_probe(field):
    probe = replace(PROBE)
    setattr(probe, field.name, changed(getattr(probe, field.name)))
    assert dataset_key(settings("x"), probe) != dataset_key(settings("x"), PROBE)


def test_key_knows_equal_numbers_and_the_generator(monkeypatch):
    key = dataset_key(settings("x", nphotons=1e6), PROBE)
    assert len(key) == 12 and set(key) <= set("0123456789abcdef")
    assert dataset_key(settings("x", nphotons=1_000_000), PROBE) == key
    monkeypatch.setattr(cache, "GENERATOR_VERSION", cache.GENERATOR_VERSION + 1)
    assert dataset_key(settings("x"), PROBE) != key


def test_key_of_a_file_is_its_content(tmp_path):
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    np.savez(here, probe=np.eye(16, dtype=np.complex64))
    shutil.copy(here, there)
    keys = [dataset_key(settings("x"), NpzProbe(path=str(path), key="probe")) for path in (here, there)]
    assert keys[0] == keys[1]
    np.savez(there, probe=2 * np.eye(16, dtype=np.complex64))
    assert dataset_key(settings("x"), NpzProbe(path=str(there), key="probe")) != keys[0]
    with pytest.raises(ValueError, match=r"probe\.path=.*absent\.npz: no such file"):
        dataset_key(settings("x"), NpzProbe(path=str(tmp_path / "absent.npz"), key="probe"))


# --- corruption ------------------------------------------------------------------------------


def truncate(entry: Path) -> None:
    path = entry / "train_amplitude.npy"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(entry: Path, name: str, position: int) -> None:
    content = bytearray((entry / name).read_bytes())
    content[position] ^= 1
    (entry / name).write_bytes(content)


def other_scalar(entry: Path) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest["scalars"]["photon_scale"] *= 2
    (entry / "manifest.json").write_text(json.dumps(manifest))


def replace_by_pipe(entry: Path, name: str) -> None:
    (entry / name).unlink()
    os.mkfifo(entry / name)


def replace_by_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("")


def replace_by_another_dataset(entry: Path) -> None:
    other = settings(entry.parent, name="other", seed=99)
    load_dataset(other, PROBE)
    shutil.rmtree(entry)
    entry_of(other).rename(entry)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, r"train_amplitude\.npy fails its checksum"),
        (partial(flip_a_bit, name="probe.npy", position=20), r"probe\.npy fails its checksum"),
        (lambda entry: (entry / "test_objects.npy").unlink(), r"test_objects\.npy is missing"),
        (lambda entry: (entry / "manifest.json").unlink(), r"manifest\.json is missing"),
        (lambda entry: (entry / "manifest.json").write_text("{"), r"manifest\.json .* not as written"),
        (
            partial(replace_by_pipe, name="manifest.json"),
            r"not as written \(not a plain file",
        ),
        (partial(replace_by_pipe, name="probe.npy"), r"probe\.npy is missing or no plain file"),
        (lambda entry: (entry / "manifest.json").write_text("[1]"), r"manifest\.json fails its checksum"),
        (other_scalar, r"manifest\.json fails its checksum"),
        (replace_by_another_dataset, r"manifest\.json is of dataset"),
        (replace_by_file, r"manifest\.json is missing"),
    ],
)
def test_corrupt_entry_is_named_set_aside_and_rebuilt(data, caplog, damage, reason):
    before = {name: np.array(value) for name, value in values(load_dataset(data, PROBE)).items()}
    entry = entry_of(data)
    damage(entry)
    caplog.clear()
    rebuilt = load_dataset(data, PROBE)
    assert simulations(caplog) == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert entry.name in warning and re.search(reason, warning)
    assert entry.with_name(f"{entry.name}.corrupt-1").exists()
    for name, value in values(rebuilt).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)  # type: ignore[arg-type]


def test_every_corrupt_entry_is_kept(data):
    for _ in range(2):
        load_dataset(data, PROBE)
        truncate(entry_of(data))
    load_dataset(data, PROBE)
    names = sorted(path.name for path in Path(data.cache_dir).glob("*.corrupt-*"))
    assert names == [f"{entry_of(data).name}.corrupt-{number}" for number in (1, 2)]


# --- building --------------------------------------------------------------------------------


def test_processes_started_at_once_build_once(data, tmp_path):
    # A fork server that has imported the package starts its workers at nearly the same moment.
    log = tmp_path / "log.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ptychofno.data"])
    configure = partial(logging.basicConfig, filename=str(log), level=logging.INFO)
    with context.Pool(4, initializer=configure) as pool:
        datasets = pool.starmap(load_dataset, [(data, PROBE)] * 4, chunksize=1)
    lines = log.read_text().splitlines()
    assert sum("simulating" in line for line in lines) == 1
    assert sum("using cached dataset" in line for line in lines) == 3
    for other in datasets[1:]:
        assert_same(datasets[0], other)


def test_entry_that_appears_while_waiting_for_the_lock_is_used(data, monkeypatch, caplog):
    elsewhere = settings(Path(data.cache_dir).parent / "elsewhere")
    load_dataset(elsewhere, PROBE)

    class SlowLock(cache.FileLock):
        def acquire(self, *args, **kwargs):
            shutil.copytree(entry_of(elsewhere), entry_of(data))
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(cache, "FileLock", SlowLock)
    caplog.clear()
    load_dataset(data, PROBE)
    assert simulations(caplog) == 0


def test_leftovers_of_a_killed_build_are_removed(data):
    leftover = entry_of(data).with_name(f".{entry_of(data).name}.partial")
    leftover.mkdir(parents=True)
    (leftover / "train_amplitude.npy").write_bytes(b"half")
    load_dataset(data, PROBE)
    assert not leftover.exists()


def assert_nothing_left(data: GridLinesData) -> None:
    assert [path.suffix for path in Path(data.cache_dir).iterdir()] == [".lock"]


def test_full_disk_names_the_directory_and_leaves_nothing(data, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CacheError) as caught:
            load_dataset(data, PROBE)
    message = str(caught.value)
    assert f"data.cache_dir={data.cache_dir}: " in message and "No space left on device" in message
    assert "\n" not in message
    assert_nothing_left(data)
    load_dataset(data, PROBE)


def test_write_that_breaks_off_leaves_nothing(data):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CacheError, match=r"data\.cache_dir=.*File too large"):
            load_dataset(data, PROBE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_nothing_left(data)
    load_dataset(data, PROBE)


def test_failed_simulation_leaves_nothing(data, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("data.nlines=1")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "simulate", fail)
        with pytest.raises(ValueError, match=r"data\.nlines=1"):
            load_dataset(data, PROBE)
    assert_nothing_left(data)


def test_cache_dir_that_is_a_file_is_named(data):
    Path(data.cache_dir).write_text("")
    with pytest.raises(CacheError, match=r"data\.cache_dir=.*datasets"):
        load_dataset(data, PROBE)


@pytest.mark.parametrize(
    ("changes", "probe", "message"),
    [
        ({"size": 8}, PROBE, r"data\.size=8"),
        ({}, DatasetProbe(), r"probe: comes with measured data only"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(data, changes, probe, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(replace(data, **changes), probe)
    assert not Path(data.cache_dir).exists()
