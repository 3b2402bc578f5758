"""Which provider: what ``--harness-broker`` says, or the first that works here."""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.broker.address import Address
from harness.broker.base import Broker, Provider, Unavailable
from harness.broker.run import Run, begin_run
from harness.errors import HarnessError

#: What may be chosen, besides the URL of a broker.
SETTINGS = ("auto", "docker", "local", "none")
_HOW_TO_GET_ONE = (
    "install Docker (apt-get install docker.io, then start dockerd) or rabbitmq-server, "
    "or name a broker: --harness-broker=amqp://USER:PASSWORD@HOST:5672/"
)

_reason = "no broker was asked for; choose one with --harness-broker=auto"


def why_not() -> str:
    """Return why the last :func:`choose` gave None, and how to get a broker: one line."""
    return _reason


def check_setting(setting: str) -> None:
    """Look at a setting without asking anybody.

    :raises HarnessError: if it is neither a word that :func:`choose` knows nor an amqp URL
    """
    if "://" in setting:
        Address.parse(setting)
    elif setting not in SETTINGS:
        raise HarnessError(
            f"unknown broker {setting!r}; choose one of {', '.join(SETTINGS)}, "
            "or the URL of one: amqp://USER:PASSWORD@HOST:5672/"
        )


def choose(
    setting: str,
    *,
    image: str | None = None,
    run: Run | None = None,
    say: Callable[[str], None] | None = None,
) -> Provider | None:
    """Return the provider that a setting asks for; nothing is started yet.

    :param setting: ``auto``, ``docker``, ``local``, ``none``, or an amqp URL
    :param image: image for Docker; None for the official one, or one built on this machine
    :param run: what the broker ends with; default: this process's run
    :param say: told what takes long; default: a line on the real standard error
    :return: None for ``none``, and for ``auto`` where nothing is available: :func:`why_not` tells
    :raises HarnessError: for a setting that is none of these, and for a provider asked for by name
        that cannot be had
    """
    global _reason
    run = run or begin_run()
    say = say or _say
    if setting == "none":
        _reason = "the broker is switched off (none); choose one with --harness-broker=auto"
        return None
    check_setting(setting)
    if "://" in setting:
        from harness.broker.external import UrlProvider

        return UrlProvider(setting, run)
    from harness.broker.docker import DockerProvider
    from harness.broker.local import LocalProvider

    offers: dict[str, tuple[Provider, Callable[[], str | None]]] = {
        "docker": (DockerProvider(run, say, image), DockerProvider.lacking),
        "local": (LocalProvider(run, say), LocalProvider.lacking),
    }
    if setting != "auto":
        provider, lacking = offers[setting]
        if reason := lacking():
            raise Unavailable(f"--harness-broker={setting}: {reason}")
        return provider
    reasons = {name: lacking() for name, (_, lacking) in offers.items()}
    able = [offers[name][0] for name, reason in reasons.items() if reason is None]
    if not able:
        told = "; ".join(f"{name}: {_first_clause(why or '')}" for name, why in reasons.items())
        _reason = f"no broker here ({told}); {_HOW_TO_GET_ONE}"
        return None
    return able[0] if len(able) == 1 else FirstThatStarts(able, run, say)


def _first_clause(text: str) -> str:
    return text.partition(";")[0]


def _say(text: str) -> None:
    print(f"harness: {text}", file=sys.__stderr__, flush=True)


class FirstThatStarts(Provider):
    """Tries providers in order; what one worker of a run found out serves them all.

    :param providers: the first one is preferred
    :param say: told of each provider that did not work out
    """

    name = "auto"

    def __init__(self, providers: list[Provider], run: Run, say: Callable[[str], None]) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._run = run
        self._say = say

    def start(self) -> Broker:
        return self._chosen().start()

    def start_private(self) -> Broker:
        return self._chosen().start_private()

    def describe(self) -> str:
        return ", else ".join(provider.describe() for provider in self._providers.values())

    def _chosen(self) -> Provider:
        record = self._run.share("auto", self._try)
        self.name = record["name"]
        return self._providers[self.name]

    def _try(self) -> dict[str, str]:
        reasons = []
        for name, provider in self._providers.items():
            try:
                provider.start()
            except HarnessError as error:
                reasons.append(f"{name}: {error}")
                self._say(f"no {name} broker ({error})")
            else:
                return {"name": name}
        raise Unavailable(f"no broker would start ({'; '.join(reasons)}); {_HOW_TO_GET_ONE}")
