"""The one broker of a run of tests: chosen and started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Callable

from harness.broker.base import Broker, Provider, Unavailable
from harness.broker.run import begin_run, finish_run
from harness.broker.selection import check_setting, choose, why_not
from harness.errors import HarnessError


class BrokerSource:
    """The one broker of a run of tests.

    Under pytest-xdist the controller makes one too, before its workers start: the broker ends with
    the controller.

    :param setting: see :func:`harness.broker.choose`
    :param image: image for Docker
    :param say: told what takes long
    :raises HarnessError: if the setting can be seen to be wrong without asking anybody
    """

    def __init__(
        self,
        setting: str,
        *,
        image: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        check_setting(setting)
        begin_run()
        self._setting = setting
        self._image = image
        self._say = say
        self._provider: Provider | None = None
        self._broker: Broker | None = None
        self._reason: str | None = None
        self._error: HarnessError | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no broker and how to get one; None as long as that is not known."""
        return self._reason

    def prepare(self) -> Broker | None:
        """Return the running broker, or None if there is none to be had; :attr:`reason` says why.

        Call it before the process forks, so that the children find it started.

        :raises HarnessError: if the setting is wrong, or names a broker that cannot be had
        """
        if self._error is not None:
            raise self._error  # one test has waited for it in vain; the others need not
        if self._broker is None and self._reason is None:
            try:
                self._provider = choose(self._setting, image=self._image, say=self._say)
                self._broker = None if self._provider is None else self._provider.start()
                self._reason = None if self._broker is not None else why_not()
            except HarnessError as error:
                if self._setting != "auto" or not isinstance(error, Unavailable):
                    self._error = error
                    raise
                self._reason = str(error)
        return self._broker

    def private(self) -> Broker | None:
        """Return another broker that nobody else uses; the caller stops it.

        :raises HarnessError: as :meth:`prepare`, and for a broker that is not the harness's own
        """
        if self.prepare() is None or self._provider is None:
            return None
        return self._provider.start_private()

    def describe(self) -> str:
        """Return one line for the summary."""
        run = begin_run()
        for kind in ("docker", "local", "url"):
            # Also what a worker of pytest-xdist has started: its controller writes the summary.
            record = run.shared(kind)
            if record is not None:
                return f"{kind}: {record['summary']}"
        return self._reason or "not needed by any test"

    def finish(self) -> None:
        """End the broker, in the process that owns the run; again is fine."""
        finish_run()
        self._broker = None
