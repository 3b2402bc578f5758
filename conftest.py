"""The way in from a checkout: says what is missing before pytest says it in its own words."""

import pytest

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    manager = config.pluginmanager
    if not (manager.hasplugin("harness") or manager.is_blocked("harness")):
        raise pytest.UsageError(
            "the harness plugin is not installed in this environment; run: pip install -e ."
        )
