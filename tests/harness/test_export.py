"""One function, every use: the script that is handed upstream is the scenario that was judged."""

import ast
import importlib.metadata
import inspect
import itertools
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from harness import isolation
from harness.cli import main
from harness.errors import HarnessError
from harness.export import export, forks, oldest_python
from harness.outcome import EXIT_BUG, EXIT_CANNOT_RUN, EXIT_HEALTHY, Outcome
from harness.scenario import Scenario
from harness.selection import select

ROOT = Path(__file__).parents[2]
LIBRARY = select([str(ROOT / "scenarios")])
NEEDS = "import asyncio\n\nfrom harness.scenario import scenario\n"
#: Modules of one name would be one module.
NUMBERS = itertools.count()
RECORD = 'id="S1", title="It breaks", source="https://example.org/1"'


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module that holds one scenario, and return its record."""
    monkeypatch.chdir(tmp_path)

    def make(body: str, *, record: str = "", before: str = "", signature: str = "test_it()"):
        text = (
            f"{NEEDS}{textwrap.dedent(before)}\n\n@scenario({RECORD}{record})\n"
            f"async def {signature}:\n{textwrap.indent(textwrap.dedent(body), '    ')}"
        )
        count = len(list(tmp_path.glob("test_*.py")))
        file = tmp_path / f"test_{count}.py"
        file.write_text(text)
        (found,) = select([str(file)])
        return found

    return make


def run(text: str, *options: str, **environment: str) -> tuple[int, str, str]:
    """Run a script in a process that has nothing of the project; return status and output."""
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "AMQP_URL")}
    done = subprocess.run(
        [sys.executable, *options, "-"],
        check=False,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={**plain, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]


# What it says


def test_healthy_script_exits_with_0(write):
    status, output, errors = run(export(write("print('seen')\n")))
    assert (status, output, last_line(errors)) == (EXIT_HEALTHY, "seen\n", "healthy")


def test_bug_is_named_with_the_line_that_failed(write, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(export(write("seen = 1\nassert seen == 2\n")))
    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == EXIT_BUG
    assert last_line(done.stderr) == "bug: AssertionError: assert seen == 2"
    number = script.read_text().splitlines().index("    assert seen == 2") + 1
    assert f'script.py", line {number}, in test_it' in done.stderr


def test_message_of_an_exception_stays_on_one_line(write):
    status, _, errors = run(export(write("raise ValueError('one\\ntwo')\n")))
    assert status == EXIT_BUG
    assert last_line(errors) == "bug: ValueError: one two"
    assert "Traceback" in errors


def test_exit_of_the_body_is_a_bug_and_not_a_pass(write):
    status, _, errors = run(export(write("raise SystemExit(0)\n")))
    assert (status, last_line(errors)) == (EXIT_BUG, "bug: SystemExit: 0")


def test_skip_means_cannot_run(write):
    record = write("raise unittest.SkipTest('not here')\n", before="import unittest\n")
    status, _, errors = run(export(record))
    assert (status, last_line(errors)) == (EXIT_CANNOT_RUN, "cannot run: not here")


@pytest.mark.parametrize("where", ["body", "module"])
def test_library_that_is_not_there_means_cannot_run(write, where):
    statement = "import no_such_library\n"
    if where == "body":
        text = export(write(statement))
    else:
        # A module that imports it at its top cannot be imported here, so it is there for a moment.
        Path("no_such_library.py").touch()
        sys.path.insert(0, os.getcwd())
        try:
            text = export(write("assert no_such_library\n", before=statement))
        finally:
            sys.path.remove(os.getcwd())
            sys.modules.pop("no_such_library", None)
    status, _, errors = run(text)
    assert status == EXIT_CANNOT_RUN
    assert last_line(errors) == "cannot run: No module named 'no_such_library'"


def test_wrong_python_means_cannot_run(write):
    text = export(write("pass\n", record=', python=">=3.99"'))
    status, _, errors = run(text)
    assert status == EXIT_CANNOT_RUN
    assert last_line(errors) == "cannot run: needs Python >=3.99 without -O"


def test_stripped_assertions_mean_cannot_run(write):
    status, _, errors = run(export(write("assert False\n")), "-O")
    assert (status, last_line(errors)) == (
        EXIT_CANNOT_RUN,
        "cannot run: needs Python without -O",
    )


def test_hang_shows_the_stacks_of_tasks_and_threads(write):
    record = write(
        """\
        thread = threading.Thread(target=threading.Event().wait, daemon=True)
        thread.start()
        await never()
        """,
        before="import threading\n\n\nasync def never():\n    await asyncio.Event().wait()\n",
        record=", limit=0.5",
    )
    status, _, errors = run(export(record))
    assert (status, last_line(errors)) == (EXIT_BUG, "hang: the scenario did not return")
    assert re.findall(", in (.*)", errors) == ["test_it", "never", "wait"]
    assert len(re.findall("[Tt]hread 0x", errors)) == 2


def test_spin_is_a_hang_too(write):
    record = write("while True:\n    pass\n", record=", limit=0.5")
    status, _, errors = run(export(record))
    assert (status, last_line(errors)) == (EXIT_BUG, "hang: the scenario did not return")


def test_thread_that_never_ends_does_not_keep_the_script(write):
    record = write(
        "threading.Thread(target=threading.Event().wait).start()\n", before="import threading\n"
    )
    assert run(export(record))[0] == EXIT_HEALTHY


def test_broker_url_comes_from_the_environment(write):
    text = export(write("print(amqp_url)\n", signature="test_it(amqp_url)"))
    status, _, errors = run(text)
    assert status == EXIT_CANNOT_RUN
    assert (
        last_line(errors)
        == "cannot run: needs Python without -O, and AMQP_URL, the URL of a RabbitMQ"
    )
    assert run(text, AMQP_URL="amqp://here")[:2] == (EXIT_HEALTHY, "amqp://here\n")


def test_prepare_runs_before_the_loop_exists(write):
    before = """\
        SEEN = []


        def look():
            SEEN.append(asyncio._get_running_loop())
        """
    record = write("assert SEEN == [None]\n", before=before, record=", prepare=look")
    assert run(export(record))[0] == EXIT_HEALTHY
    record = write(
        "assert SEEN == [1]\n", before="SEEN = []\n", record=", prepare=lambda: SEEN.append(1)"
    )
    assert run(export(record))[0] == EXIT_HEALTHY


# What it holds


def test_header_pins_the_release_that_was_asked_for(write):
    record = write("import nest_asyncio\n", record=', library="nest-asyncio", python=">=3.7"')
    header = export(record, "1.5.1").splitlines()[:4]
    assert header == [
        "# /// script",
        '# requires-python = ">=3.7"',
        '# dependencies = ["nest-asyncio==1.5.1"]',
        "# ///",
    ]


def test_header_pins_a_release_that_the_record_shows_with_the_bug(write):
    record = write("pass\n", record=', present=("nest-asyncio<1.4",), shown_in=("1.3.3", "1.4.0")')
    assert '"nest-asyncio==1.3.3"' in export(record)


@pytest.mark.parametrize(
    ("present", "release"),
    [
        ("nest-asyncio>=1.3.0,<1.4.0", "1.3.0"),
        ("nest-asyncio>=1.1,<=1.2.3", "1.2.3"),
        ("nest-asyncio==1.3.*,>=1.3.1; python_version < '3.8'", "1.3.1"),
        ("nest-asyncio>=1.2", importlib.metadata.version("nest-asyncio")),
        ("nest-asyncio<1.4", importlib.metadata.version("nest-asyncio")),
    ],
)
def test_header_pins_a_bad_release_that_present_names_where_the_installed_one_is_healthy(
    write, present, release
):
    record = write("import nest_asyncio\n", record=f", present=({present!r},)")
    assert f'"nest-asyncio=={release}"' in export(record)


def test_header_names_the_project_of_each_module_and_never_this_one(write, monkeypatch):
    import harness.export

    owners = {"plumpy": ["loop-harness", "plumpy"], "yaml": ["PyYAML"]}
    monkeypatch.setattr(harness.export, "_projects_of_modules", lambda: owners)
    record = write("import plumpy, yaml, nest_asyncio2, json\n")
    header = export(record).splitlines()[2]
    assert [name.partition("==")[0] for name in re.findall(r'"([^"]+)"', header)] == [
        "plumpy",
        "pyyaml",
        "nest-asyncio2",
    ]


def test_module_that_is_not_installed_is_not_looked_for_in_all_projects(write, monkeypatch):
    """It takes longer than the rest of an export, and its name is all that there is to know."""
    import harness.export

    monkeypatch.setattr(harness.export, "_projects_of_modules", lambda: 1 / 0)
    record = write("import no_such_module\n")
    assert export(record).splitlines()[2] == '# dependencies = ["no-such-module"]'


def test_header_names_the_extra_that_a_module_needs(write):
    record = write("assert kiwipy.rmq\n", before="import kiwipy.rmq\n")
    assert re.search(r'"kiwipy\[rmq\]==[0-9.]+"', export(record))


def test_docstring_tells_symptom_and_source(write):
    record = write("pass\n")
    doc = ast.get_docstring(ast.parse(export(record)))
    assert doc is not None
    assert "S1: It breaks" in doc
    assert "https://example.org/1" in doc


def test_title_cannot_end_the_docstring(tmp_path):
    title = 'a """ and a \\ in it'
    file = tmp_path / "test_title.py"
    file.write_text(
        f"{NEEDS}\n\n@scenario(id='S1', title={title!r}, source='x')\n"
        "async def test_it():\n    pass\n"
    )
    (record,) = select([str(file)])
    text = export(record)
    assert title in (ast.get_docstring(ast.parse(text)) or "")
    assert run(text)[0] == EXIT_HEALTHY


def test_what_the_scenario_uses_comes_along_and_nothing_else(write):
    before = """\
        import concurrent.futures
        import json, queue
        from collections import deque, OrderedDict as Ordered

        # How many there are.
        COUNT = 3
        TABLE = {}
        TABLE["one"] = COUNT
        UNUSED = queue


        def other():
            return queue


        @staticmethod
        def helper(number=COUNT):
            # A comment stays.
            return deque([number])


        class Thing(Ordered):
            size = COUNT
            double = size * 2
        """
    record = write("assert helper() and Thing and TABLE and json\n", before=before)
    text = export(record)
    for kept in (
        "# How many there are.\nCOUNT = 3\n",
        "# A comment stays.",
        'TABLE["one"] = COUNT',
    ):
        assert kept in text
    assert "from collections import deque, OrderedDict as Ordered\n" in text
    assert re.search(r"^import .*\bjson\b", text, re.MULTILINE)
    for left in ("UNUSED", "other", "queue", "concurrent", "harness"):
        assert left not in text.replace("harness.scenario", "")


def test_optional_import_comes_along_whole(write):
    before = "try:\n    import tomllib\nexcept ImportError:\n    tomllib = None\n"
    text = export(write("print(tomllib)\n", before=before))
    assert before in text
    assert run(text)[0] == EXIT_HEALTHY


@pytest.mark.parametrize(
    ("body", "options", "named"),
    [
        (
            "helper()\n",
            {"before": "from harness.outcome import judge as helper\n"},
            "harness.outcome",
        ),
        ("from harness import outcome\n", {}, "harness"),
        ("import pytest\n", {}, "write 'try: ... except' for pytest.raises"),
        ("pass\n", {"signature": "test_it(broker)"}, "'broker'"),
        ("no_such_name()\n", {}, "no_such_name"),
        ("print(__file__)\n", {}, "__file__"),
        ("sleep()\n", {"before": "from time import *\n"}, "from time import *"),
        ("signal()\n", {"before": "from time import sleep as signal\n"}, "signal"),
        ("(x := 1)\n", {}, "3.6"),
        ("pass\n", {"signature": "test_it() -> list[int]"}, "list[int]"),
        ("pass\n", {"record": ', library="nest-asyncio"', "release": "x.y"}, "'x.y'"),
        ("pass\n", {"release": "1.0"}, "'1.0'"),
    ],
)
def test_what_cannot_come_along_is_named(write, body, options, named):
    release = options.pop("release", None)
    record = write(body, **options)
    with pytest.raises(HarnessError, match=re.escape(named)) as caught:
        export(record, release)
    assert "S1" in str(caught.value)


SUBCLASSES = """\
class Base:
    all = []

    def __init_subclass__(cls):
        cls.all.append(cls.__name__)


class One(Base):
    pass


class Two(One):
    pass
"""


@pytest.mark.parametrize(
    ("before", "body"),
    [
        ("TABLE = {}\nfor n in range(2):\n    TABLE[n] = n\n", "assert TABLE == {0: 0, 1: 1}\n"),
        ("TABLE = [1, 2]\nif TABLE:\n    del TABLE[0]\n", "assert TABLE == [2]\n"),
        (
            "TABLE = []\ntry:\n    import gone\nexcept ImportError:\n    TABLE.append(1)\n",
            "assert TABLE == [1]\n",
        ),
        (
            (
                "import functools\n\n\n@functools.singledispatch\ndef kind(value):\n"
                "    return 0\n\n\n@kind.register(str)\ndef _(value):\n    return 1\n"
            ),
            "assert kind('') == 1\n",
        ),
        (SUBCLASSES, "assert Base.all == ['One', 'Two']\n"),
        ("", "global made\nmade = 1\nassert made == 1\n"),
    ],
    ids=["loop", "delete", "handler", "register", "subclass", "global"],
)
def test_what_changes_a_name_that_came_along_comes_too(write, before, body):
    text = export(write(body, before=before))
    assert run(text)[0] == EXIT_HEALTHY


def test_what_runs_a_module_as_a_program_stays(write):
    before = "TABLE = []\nif __name__ == '__main__':\n    TABLE.append(asyncio)\n"
    assert "append" not in export(write("assert not TABLE\n", before=before))


@pytest.mark.parametrize("switch", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_what_is_there_for_type_checkers_only_is_not_needed(tmp_path, switch):
    file = tmp_path / "test_typed.py"
    file.write_text(
        f"from __future__ import annotations\n\n{NEEDS}import typing\n"
        "from typing import TYPE_CHECKING\n\n"
        f"if {switch}:\n    from somewhere import Thing\n\n\n"
        "def helper(thing: Thing) -> Thing:\n    return thing\n\n\n"
        f"@scenario({RECORD}, python='>=3.7')\n"
        "async def test_it() -> None:\n    assert helper(1) == 1\n"
    )
    (record,) = select([str(file)])
    text = export(record)
    assert "somewhere" not in text
    assert run(text)[0] == EXIT_HEALTHY


def test_annotation_that_only_type_checkers_understand_is_named(write):
    before = """\
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from somewhere import Thing


        def helper(thing: "Thing"):
            return thing


        # As on Python 3.14, which does not evaluate it.
        helper.__annotations__ = {}
        """
    record = write("assert helper(1)\n", before=before)
    assert run(export(record))[0] == EXIT_HEALTHY
    text = Path("test_0.py").read_text().replace('"Thing"', "Thing")
    Path("test_0.py").write_text(text)
    with pytest.raises(HarnessError, match=r"Thing.*for type checkers only"):
        export(record)


def test_name_in_an_annotation_that_is_a_string_comes_along(write):
    before = """\
        import dataclasses
        import typing


        @dataclasses.dataclass
        class Point:
            x: "typing.Optional[int]" = None
        """
    record = write(
        "assert typing_of(Point)\n",
        before=before
        + """\


        def typing_of(what):
            import typing

            return typing.get_type_hints(what)
        """,
    )
    assert run(export(record))[0] == EXIT_HEALTHY


def test_module_that_a_python_does_not_have_means_cannot_run(write, tmp_path):
    """By hand on a Python that the record does not claim, too."""
    record = write("assert graphlib\n", before="import graphlib\n", record=', python=">=3.9"')
    (tmp_path / "graphlib.py").write_text("raise ImportError('not here')\n")
    status, _, errors = run(export(record), PYTHONPATH=str(tmp_path))
    assert (status, last_line(errors)) == (EXIT_CANNOT_RUN, "cannot run: not here")


def test_header_pins_what_is_not_installed_to_its_newest_release(write):
    record = write("import not_installed_here, nest_asyncio\n")
    found = export(record, newest={"not-installed-here": "2.1"}.get).splitlines()[2]
    assert '"not-installed-here==2.1"' in found
    assert '"not-installed-here"' in export(record).splitlines()[2]


def test_star_import_is_in_the_way_only_of_what_it_gives(write):
    before = "from time import *\nfrom unittest.mock import *\n"
    record = write("try:\n    int('x')\nexcept ValueError:\n    pass\n", before=before)
    assert run(export(record))[0] == EXIT_HEALTHY
    with pytest.raises(HarnessError, match=r"uses Mock of 'from unittest\.mock import \*'"):
        export(write("Mock()\n", before=before))


def test_closure_is_named(tmp_path):
    file = tmp_path / "test_closure.py"
    file.write_text(
        f"{NEEDS}\n\ndef make(value):\n    @scenario({RECORD})\n    async def test_it():\n"
        "        assert value\n    return test_it\n\n\ntest_it = make(1)\n"
    )
    (record,) = select([str(file)])
    with pytest.raises(HarnessError, match="closes over value"):
        export(record)


def test_lazy_annotations_stay_lazy_where_python_knows_them(tmp_path):
    file = tmp_path / "test_lazy.py"
    file.write_text(
        f"from __future__ import annotations\n\n{NEEDS}\n\n@scenario({RECORD}, python='>=3.7')\n"
        "async def test_it() -> list[int] | None:\n    pass\n"
    )
    (record,) = select([str(file)])
    assert "from __future__ import annotations\n" in export(record)


@pytest.mark.parametrize(
    ("claimed", "oldest"),
    [(">=3.6", "3.6"), (">=3.12.1", "3.12"), (">3.7,<3.9", "3.7"), ("", "3.6")],
)
def test_oldest_python_is_the_first_minor_that_the_record_admits(claimed, oldest):
    assert str(oldest_python(SpecifierSet(claimed))) == oldest


@pytest.mark.parametrize(
    "claimed",
    [">=3.7", ">3.8.2", "<3.12", "<=3.9", "==3.10.*", "!=3.10.*", "~=3.8", ">=3.8,!=3.9.1"],
)
def test_version_check_of_the_script_agrees_with_the_record(write, claimed):
    text = export(write("pass\n", record=f", python={claimed!r}"))
    (condition,) = re.findall(r"if not __debug__(?: or (.*))?:", text)
    for minor in range(6, 15):
        for micro in range(4):
            version = type("sys", (), {"version_info": (3, minor, micro)})
            excluded = eval(condition, {"sys": version})
            expected = SpecifierSet(claimed).contains(f"3.{minor}.{micro}")
            assert excluded is not expected, (minor, micro)


def test_command_writes_what_it_can_and_names_the_rest(write, capsys):
    write("pass\n")
    write("pass\n", signature="test_it(tmp_path)")
    assert main(["export", "test_0.py", "--output", "out/"]) == 0
    assert Path("out/S1.py").is_file()
    Path("test_2.py").write_text(Path("test_0.py").read_text().replace("S1", "S2"))
    assert main(["export", "test_1.py", "test_2.py", "--output", "out"]) == 2
    assert Path("out/S2.py").is_file()
    assert "'S1' cannot be exported: it takes the argument 'tmp_path'" in capsys.readouterr().err


# Helper modules of the scenario's package


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write the modules of a package, and return the record of the scenario in its test_it.py."""
    monkeypatch.chdir(tmp_path)

    def make(body: str, **modules: str):
        name = f"bugs_{next(NUMBERS)}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        top = modules.pop("top", "").replace("PACKAGE", name)
        test = f"{NEEDS}{top}\n\n\n@scenario({RECORD})\nasync def test_it():\n"
        (folder / "test_it.py").write_text(test + textwrap.indent(textwrap.dedent(body), "    "))
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(textwrap.dedent(text).replace("PACKAGE", name))
        (found,) = select([str(folder / "test_it.py")])
        return found

    return make


@pytest.mark.parametrize("module", ["PACKAGE._one", "._one"])
def test_helper_of_the_package_comes_along_with_what_it_uses(package, module):
    record = package(
        "assert helper() == 3\n",
        top=f"from {module} import helper, unused",
        _one="""\
            import json
            from collections import deque

            from PACKAGE._two import COUNT

            # It counts.
            def helper():
                return len(deque([1] * COUNT))


            def unused():
                return json
            """,
        _two="NOT_NEEDED = 1\nCOUNT = 3\n",
    )
    text = export(record)
    assert "# It counts.\ndef helper():\n    return len(deque([1] * COUNT))\n" in text
    assert text.index("COUNT = 3") < text.index("def helper") < text.index("async def test_it")
    for left in ("unused", "json", "NOT_NEEDED", "bugs_"):
        assert left not in text
    assert run(text)[0] == EXIT_HEALTHY


def test_helper_is_read_before_the_module_that_builds_on_it(package):
    record = package(
        "assert Late.value == Base.value == 1\n",
        top="from PACKAGE._base import Base\nfrom PACKAGE._late import Late",
        _base="class Base:\n    value = 1\n",
        _late="from PACKAGE._base import Base\n\n\nclass Late(Base):\n    pass\n",
    )
    assert run(export(record))[0] == EXIT_HEALTHY


def test_helper_comes_along_into_a_folder_that_is_no_package(package, tmp_path):
    """A family that was dropped into the library without an __init__.py."""
    record = package("assert True\n", _one="def helper():\n    return 3\n")
    folder = Path(record.function.__code__.co_filename).parent
    (folder / "dropped").mkdir()
    new = folder / "dropped" / "test_new.py"
    new.write_text(
        f"{NEEDS}from {folder.name}._one import helper\n\n\n@scenario({RECORD})\n"
        "async def test_it():\n    assert helper() == 3\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        (found,) = select([str(new)])
    finally:
        sys.path.remove(str(tmp_path))
    assert run(export(found))[0] == EXIT_HEALTHY


@pytest.mark.parametrize(
    ("body", "modules", "named"),
    [
        (
            "h()\n",
            {"top": "from PACKAGE._one import helper as h", "_one": "def helper(): pass\n"},
            "by its own name",
        ),
        ("one\n", {"top": "import PACKAGE._one as one", "_one": ""}, "by its own name"),
        (
            "_one\n",
            {"top": "from PACKAGE import _one", "_one": ""},
            "._one import NAME'",
        ),
        ("_one\n", {"top": "from . import _one", "_one": ""}, "'from ._one import NAME'"),
        (
            "X\n",
            {"top": "from ._one import *", "_one": "X = 1\n"},
            "uses X of 'from ._one import *'; import it by name",
        ),
        (
            "from ._one import helper\nhelper()\n",
            {"_one": "def helper(): pass\n"},
            "import it at the top",
        ),
        (
            "helper()\nuse()\n",
            {
                "top": "from PACKAGE._one import helper\n\ndef use():\n    return 1\n",
                "_one": "def use():\n    return 2\n\ndef helper():\n    return use()\n",
            },
            "test_it.py and _one.py both have a use",
        ),
        (
            "helper()\nprint(time)\n",
            {
                "top": "import time\nfrom PACKAGE._one import helper",
                "_one": "from time import time\n\ndef helper():\n    return time()\n",
            },
            "both have a time",
        ),
        (
            "helper()\nprint(1)\n",
            {
                "top": "from PACKAGE._one import helper\n\ndef print(what):\n    pass\n",
                "_one": "def helper():\n    print(2)\n",
            },
            "both have a print",
        ),
    ],
)
def test_helper_that_cannot_come_along_is_named(package, body, modules, named):
    with pytest.raises(HarnessError, match=re.escape(named)):
        export(package(body, **modules))


def test_fork_that_is_imported_where_the_library_is_missing_is_not_pinned(write):
    before = """\
        def library():
            try:
                import nest_asyncio
            except ImportError:
                import nest_asyncio2 as nest_asyncio
            return nest_asyncio
        """
    record = write("assert library()\n", before=before, record=', library="nest-asyncio"')
    assert export(record, "1.5.1").splitlines()[2] == '# dependencies = ["nest-asyncio==1.5.1"]'
    assert forks(record) == ["nest-asyncio2"]
    assert forks(write("import nest_asyncio\n", record=', library="nest-asyncio"')) == []


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("body", "async = 1"),
        ("module", "async = 1"),
        ("module", "import collections; collections.Mapping"),
    ],
)
def test_library_that_does_not_know_this_python_means_cannot_run(tmp_path, write, where, text):
    library = tmp_path / "old_library.py"
    library.touch()
    sys.path.insert(0, str(tmp_path))
    try:
        if where == "body":
            script = export(write("import old_library\n"))
        else:
            script = export(write("assert old_library\n", before="import old_library\n"))
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("old_library", None)
    library.write_text(text + "\n")
    status, _, errors = run(script, PYTHONPATH=str(tmp_path))
    assert status == EXIT_CANNOT_RUN, errors
    assert last_line(errors).startswith("cannot run: ")


# Every scenario of the library


def _body(record: Scenario) -> str:
    path = Path(record.function.__code__.co_filename)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for node in ast.parse("".join(lines)).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == record.function.__name__:
            return "".join(lines[node.lineno - 1 : node.end_lineno])
    raise AssertionError(record.id)


@pytest.mark.parametrize("record", LIBRARY, ids=lambda record: record.id)
def test_script_holds_the_statements_of_the_scenario_unchanged(record):
    text = export(record)
    assert _body(record) in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert not re.search(r"\b(harness|scenarios|pytest)\b", ast.unparse(node))
    assert export(record) == text


@pytest.mark.parametrize("record", LIBRARY, ids=lambda record: record.id)
def test_script_adds_at_most_60_lines_with_its_helpers(record):
    """Beyond the scenario: its function with its record, and what it has to do before a loop is."""
    assert len(export(record).splitlines()) - lines_of(record) <= 60


def lines_of(record: Scenario) -> int:
    parts = [record.function]
    if getattr(record.prepare, "__module__", None) == record.function.__module__:
        parts.append(record.prepare)
    return sum(len(inspect.getsource(part).splitlines()) for part in parts)


def test_script_adds_less_than_50_lines_of_its_own(write):
    """Header, watchdog and verdict, where the scenario stands by itself."""
    record = write("pass\n")
    assert len(export(record).splitlines()) - 2 < 50


@pytest.mark.parametrize("record", LIBRARY, ids=lambda record: record.id)
def test_header_pins_every_project_to_one_release(record):
    pins = re.findall(r'"([^"]+)"', export(record).splitlines()[2])
    assert all(re.fullmatch(r"[a-z0-9-]+(\[\w+\])?==[0-9][0-9a-z.]*", pin) for pin in pins), pins
    assert "plumpy==0.26.2" not in pins, "that one is not published"


@pytest.mark.parametrize("record", LIBRARY, ids=lambda record: record.id)
def test_script_refers_to_no_other_scenario(record):
    """Who reads it upstream has one file, and no catalogue."""
    words = set(re.findall(r"\b[A-Z]\d+\w*\b", export(record)))
    assert words & {other.id for other in LIBRARY} <= {record.id}


@pytest.mark.skipif(shutil.which("ruff") is None, reason="needs ruff; pip install ruff")
def test_scripts_are_formatted(tmp_path):
    for record in LIBRARY:
        (tmp_path / f"{record.id}.py").write_text(export(record))
    command = ["ruff", "format", "--isolated", "--check", "--line-length=100", "--quiet", "."]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("record", LIBRARY, ids=lambda record: record.id)
def test_script_and_function_agree(record):
    """With the releases that are installed here; the matrix compares every other cell."""
    if "amqp_url" in record.function.__code__.co_varnames[: record.function.__code__.co_argcount]:
        pytest.skip("needs a broker; pytest scenarios/ runs it")
    seen = isolation.observe(record)
    status, _, errors = run(export(record))
    if not record.python.contains("{}.{}.{}".format(*sys.version_info), prereleases=True):
        assert status == EXIT_CANNOT_RUN
    elif seen.outcome in (Outcome.NOT_APPLICABLE, Outcome.BROKEN):
        assert status == EXIT_CANNOT_RUN, errors
    else:
        assert status == (EXIT_BUG if seen.outcome.is_bug else EXIT_HEALTHY), errors
        assert last_line(errors).startswith("hang:") is (seen.outcome is Outcome.HANG), errors
