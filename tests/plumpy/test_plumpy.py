"""The package."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import plumpy


def test_version_takes_the_place_of_the_released_series() -> None:
    assert Version(plumpy.__version__) > Version("0.26.1")
    assert Version(plumpy.__version__) in SpecifierSet("~=0.26.0")


def test_exports_are_there_and_named_once() -> None:
    assert len(plumpy.__all__) == len(set(plumpy.__all__))
    for name in plumpy.__all__:
        assert hasattr(plumpy, name), name


def test_importing_the_package_makes_its_modules_attributes() -> None:
    script = "import plumpy; print(plumpy.base.state_machine.State, plumpy.process_states.Waiting)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[1] == "'plumpy.base.state_machine.State'>"


_WRAPPED = (
    "made = kiwipy.rmq.RmqThreadCommunicator; plumpy.wrap_communicator(made.__new__(made), 1)"
)


@pytest.mark.parametrize(
    ("script", "here"),
    [
        ("import kiwipy, plumpy", False),
        ("import plumpy, kiwipy.rmq", False),
        ("import kiwipy.rmq, plumpy", True),
        (f"import plumpy, kiwipy.rmq; {_WRAPPED}", True),
    ],
)
def test_rabbitmq_is_imported_along_where_it_is_used(script: str, here: bool) -> None:
    """Importing it with the first process held up the loop for 17 ms."""
    script = f"{script}; import sys; print('plumpy._rabbitmq' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{here}\n"


def test_logger_has_a_handler_that_does_nothing() -> None:
    assert any(
        isinstance(handler, plumpy.NullHandler) for handler in logging.getLogger("plumpy").handlers
    )


def test_every_module_can_be_imported_without_the_extras() -> None:
    """Tools that list the interface import all of it."""
    script = """
import importlib, pkgutil, sys
sys.modules["psycopg"] = None
import plumpy
for module in pkgutil.walk_packages(plumpy.__path__, "plumpy."):
    importlib.import_module(module.name)
import plumpy.postgres
try:
    plumpy.postgres.PostgresPersister("postgresql://nowhere")
except plumpy.exceptions.PersistenceError as exc:
    print(exc)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "pip install 'loop-harness[postgres]'" in run.stdout
