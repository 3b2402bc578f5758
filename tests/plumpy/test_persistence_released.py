"""Checkpoints of plumpy 0.26.1 load here, and those written here load there.

The files in ``data`` were written by the released package (``data/make_checkpoints.py``). The other
direction needs an interpreter that has it: set ``PLUMPY_RELEASED_PYTHON`` to its path.
"""

import asyncio
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
import yaml

import plumpy
from plumpy.persistence import PicklePersister

DATA = pathlib.Path(__file__).parent / "data"
RELEASED = os.environ.get("PLUMPY_RELEASED_PYTHON")

CREATED, WAITING = plumpy.ProcessState.CREATED, plumpy.ProcessState.WAITING
RUNNING, FINISHED = plumpy.ProcessState.RUNNING, plumpy.ProcessState.FINISHED
STATES = {
    (101, "created"): CREATED,
    (102, None): WAITING,
    (102, "finished"): FINISHED,
    (103, None): CREATED,
    (104, None): plumpy.ProcessState.EXCEPTED,
    (105, None): plumpy.ProcessState.KILLED,
    (106, "created"): CREATED,
    (106, "middle"): RUNNING,
    (106, "finished"): FINISHED,
}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(DATA)
    yield
    sys.modules.pop("checkpoint_processes", None)


def from_yaml(pid, tag):
    name = f"{pid}.yaml" if tag is None else f"{pid}.{tag}.yaml"
    with open(DATA / name) as handle:
        # not a safe loader: what 0.26.1 wrote in this form names classes
        return yaml.load(handle, Loader=yaml.Loader)


def from_pickle(pid, tag):
    return PicklePersister(str(DATA / "pickles")).load_checkpoint(pid, tag)


@pytest.fixture(params=[from_yaml, from_pickle], ids=["yaml", "pickle"])
def load(request):
    return lambda pid, tag=None: request.param(pid, tag).unbundle()


@pytest.mark.parametrize("name", STATES, ids=str)
async def test_every_state_loads(load, name):
    process = load(*name)
    assert process.state == STATES[name]
    assert process.pid == name[0]


async def test_inputs_and_status_are_there(load):
    created = load(101, "created")
    assert created.raw_inputs == {"number": 3, "nested": {"text": "t"}}
    assert created.inputs == {"number": 3, "nested": {"text": "t"}}
    assert load(102).inputs.number == 4
    assert load(102).status == "busy"


async def test_a_created_process_runs(load):
    process = load(101, "created")
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state != WAITING:
        await asyncio.sleep(0)
    process.resume(1)
    await task
    assert (process.outputs, process.result()) == ({"value": 1}, 7)


async def test_a_waiting_process_goes_on(load):
    process = load(102)
    task = asyncio.ensure_future(process.step_until_terminated())
    process.resume(8)
    await task
    assert process.outputs == {"value": 8}


async def test_a_paused_process_is_paused(load):
    process = load(103)
    assert (process.paused, process.status) == (True, "for lunch")
    process.play()
    assert not process.paused


async def test_what_has_ended_has_its_end(load):
    finished = load(102, "finished")
    assert (finished.result(), finished.outputs, finished.future().result()) == (
        7,
        {"value": 9},
        {"value": 9},
    )
    assert repr(load(104).exception()) == "ValueError('no good', 3)"
    killed = load(105)
    assert killed.killed_msg() == {"intent": "kill", "message": "enough", "force_kill": False}
    assert repr(killed.future().exception()) == "KilledError('enough')"


@pytest.mark.parametrize("tag", ["created", "middle"])
async def test_a_work_chain_goes_on_where_it_was(load, tag):
    chain = load(106, tag)
    assert chain.ctx.get("count") == (2 if tag == "middle" else None)
    await chain.step_until_terminated()
    assert chain.outputs == {"notes": ["odd", "even", "odd", "even"]}


def test_the_files_are_listed():
    persister = PicklePersister(str(DATA / "pickles"))
    assert set(persister.get_checkpoints()) == set(STATES)
    assert set(persister.get_process_checkpoints(102)) == {(102, None), (102, "finished")}


READER = textwrap.dedent(
    """
    import asyncio, sys, yaml
    import plumpy, plumpy.persistence

    assert plumpy.__version__ == "0.26.1" and not hasattr(plumpy.persistence, "SqlitePersister")
    directory, data = sys.argv[1:3]
    sys.path.insert(0, data)

    async def main():
        persister = plumpy.PicklePersister(directory)
        for checkpoint in sorted(persister.get_checkpoints(), key=str):
            process = persister.load_checkpoint(*checkpoint).unbundle()
            print(*checkpoint, process.state.value, end=" ")
            if process.state.value == "waiting":
                asyncio.get_running_loop().call_soon(process.resume, 8)
            if not process.has_terminated() and not process.paused and checkpoint.pid != 101:
                await process.step_until_terminated()
            elif process.state.value == "excepted":
                print(repr(process.exception()), end=" ")
            print(dict(process.outputs))
        for name in ("102", "106"):
            with open(f"{directory}/{name}.yaml") as handle:
                print(yaml.load(handle, Loader=yaml.Loader).unbundle().state.value)

    asyncio.run(main())
    """
)


@pytest.mark.skipif(RELEASED is None, reason="set PLUMPY_RELEASED_PYTHON")
async def test_checkpoints_written_here_load_in_the_released_package(tmp_path):
    persister = PicklePersister(str(tmp_path))
    for pid, tag in STATES:
        process = from_pickle(pid, tag).unbundle()
        persister.save_checkpoint(process, tag)
        if pid in (102, 106):
            (tmp_path / f"{pid}.yaml").write_text(yaml.dump(plumpy.Bundle(process)))
    shown = subprocess.run(
        [RELEASED, "-P", "-c", READER, str(tmp_path), str(DATA)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    notes = "{'notes': ['odd', 'even', 'odd', 'even']}"
    assert shown.stdout.splitlines() == [
        "101 created created {}",
        "102 finished finished {'value': 9}",
        "102 None waiting {'value': 8}",
        "103 None created {}",
        "104 None excepted ValueError('no good', 3) {}",
        "105 None killed {}",
        f"106 created created {notes}",
        f"106 finished finished {notes}",
        f"106 middle running {notes}",
        "finished",
        "finished",
    ], shown.stderr
