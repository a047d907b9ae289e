"""How processes know their places, and what becomes of those that another one started."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

from ptychofno.followers import Followers
from ptychofno.processes import Group, Place, place_of


def started(*scripts: str) -> Followers:
    """A follower per script, which it finds in a variable of its own."""
    command = [sys.executable, "-c", "import os; exec(os.environ['SCRIPT'])"]
    return Followers(command, [{"SCRIPT": script} for script in scripts])


def test_places() -> None:
    assert place_of({}) is None
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    meeting = {"MASTER_ADDR": "node-a", "MASTER_PORT": "29500"}
    assert place_of({**torchrun, **meeting}) == Place(3, 4, 1, 2, "node-a", 29500)
    assert place_of(torchrun) is None  # nowhere to meet
    slurm = {
        "SLURM_JOB_ID": "1234567",
        "SLURM_STEP_ID": "1",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "gpu-[03-05,9],fat1",
    }
    assert place_of(slurm) == Place(3, 4, 1, 2, "gpu-03", 15000 + 4568)
    assert place_of({**slurm, "MASTER_ADDR": "x", "MASTER_PORT": "7"}) == Place(3, 4, 1, 2, "x", 7)
    assert place_of({**slurm, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert place_of({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}) is None  # a batch script without srun
    local = {"SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_JOB_ID": "12"}
    assert place_of(local) == Place(1, 2, 1, 2, "127.0.0.1", 15012)


def test_alone_there_is_nobody_to_agree_with() -> None:
    group = Group()
    with group.meeting():
        group.start()
        group.lead(run_dir="x")
        with group.watching():
            assert (group.largest(3), group.broadcast("x")) == (3, "x")


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        (
            "import sys; sys.exit('not this')",
            RuntimeError,
            "rank 2 of 3 processes died with exit code 1: not this",
        ),
        ("os.kill(os.getpid(), 9)", RuntimeError, "rank 2 of 3 processes died with signal SIGKILL"),
        ("import sys; print('a.b=1: no', file=sys.stderr); sys.exit(2)", ValueError, "^a.b=1: no$"),
    ],
)
def test_the_cause_is_told_and_not_its_consequence(script: str, kind: type[Exception], said: str) -> None:
    followers = started("pass", script)
    try:
        with pytest.raises(kind, match=said):
            followers.wait_for(lambda: False)
        with pytest.raises(kind, match=said), followers.watched():
            raise RuntimeError("connection closed")
    finally:
        followers.dismiss()


def test_an_error_of_our_own_stays_one() -> None:
    followers = started("import sys; sys.stdin.read()")
    followers.patience_s = 0.1
    with pytest.raises(OSError, match="disk"), followers.watched():
        raise OSError("disk")
    with pytest.raises(RuntimeError, match="ours"), followers.watched():
        raise RuntimeError("ours")
    followers.dismiss()


def alive(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
    )


def test_a_follower_ends_with_its_leader_however_that_ends() -> None:
    leader = alive("""
        import os, sys, time
        from ptychofno.followers import Followers
        follower = "from ptychofno import processes; processes.end_with_leader(); import time; time.sleep(60)"
        followers = Followers([sys.executable, "-c", follower], [{"PTYCHOFNO_LED": "1"}])
        print(followers._processes[0].pid, flush=True)
        time.sleep(60)
    """)
    assert leader.stdout is not None
    follower = int(leader.stdout.readline())
    leader.kill()
    leader.wait()
    ends = time.monotonic() + 120
    while os.path.exists(f"/proc/{follower}"):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_leader_does_not_wait_for_ever_for_the_dead() -> None:
    leader = alive("""
        import sys, time
        from ptychofno.followers import Followers
        followers = Followers([sys.executable, "-c", "import sys; sys.exit('out of memory')"], [{}])
        followers.grace_s = 0.1
        with followers.watched():
            time.sleep(60)
    """)
    _, said = leader.communicate(timeout=120)
    assert leader.returncode == 1 and "rank 1 of 2 processes died with exit code 1: out of memory" in said
