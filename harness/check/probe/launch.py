"""The interpreter under test starts here: ``python launch.py EVENTS TEMP [argument ...]``.

Written to be parsed by every Python 3, so that one that is too old can say so.
"""

import importlib.util
import json
import os
import sys

PACKAGE = "_loop_harness_check"
OLDEST_PYTHON = (3, 8)
OLDEST_PYTEST = (6, 2)


def refuse(events: str, reason: str) -> None:
    """Write the one event that says why nothing ran, and stop."""
    with open(events, "a") as stream:
        stream.write(json.dumps({"event": "refused", "reason": reason}) + "\n")
    sys.exit(2)


def main(events: str, temp: str, arguments: list) -> int:  # type: ignore[type-arg]
    """Run pytest with the probe loaded.

    :param events: file that the probe appends JSON lines to
    :param temp: directory for what pytest and its plugins would write into the project
    """
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        refuse(events, "Python {} is too old; 3.8 or newer is needed".format(version))  # noqa: UP032
    # Like `python -m pytest`: the directory it is started in can be imported from, this one cannot.
    sys.path[0] = ""
    try:
        import pytest
    except ImportError as error:
        refuse(events, f"it has no pytest ({error}); install the project's test requirements")
    found = tuple(int(part) for part in pytest.__version__.split(".")[:2])
    if found < OLDEST_PYTEST:
        refuse(events, "pytest {} is too old; 6.2 or newer is needed".format(pytest.__version__))  # noqa: UP032
    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugin = importlib.import_module(PACKAGE + ".plugin")
    sys.argv = ["pytest", *arguments]
    options = ["-o", "cache_dir=" + os.path.join(temp, "cache")]
    if any("no:cacheprovider" in argument for argument in arguments):
        options = []
    return int(pytest.main([*options, *arguments], plugins=[plugin.Plugin(events, temp)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
