"""A real RabbitMQ for every test: a container, a private node, or a broker that you already run.

``choose()`` gives a :class:`Provider`, its ``start()`` a :class:`Broker` that answers AMQP, and
``new_vhost()`` a private place on it for one test. The broker of a run is shared by the workers of
pytest-xdist and by forked children, and ends with the process that called :func:`begin_run`, even
if that is killed.
"""

from harness.broker.base import Broker, Fault, Provider, Unavailable
from harness.broker.run import Run, begin_run, finish_run
from harness.broker.selection import SETTINGS, check_setting, choose, why_not

__all__ = [
    "SETTINGS",
    "Broker",
    "Fault",
    "Provider",
    "Run",
    "Unavailable",
    "begin_run",
    "check_setting",
    "choose",
    "finish_run",
    "why_not",
]
