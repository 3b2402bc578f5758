"""Which image to run: the official one, or one built here from Debian packages."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.broker import packages
from harness.broker.installation import needed_plugins
from harness.broker.run import cache_directory, lock
from harness.errors import HarnessError

if TYPE_CHECKING:
    from docker import DockerClient

OFFICIAL = "rabbitmq"
#: Name of the images that are built here; the tag is the version of RabbitMQ.
BUILT = "loop-harness/rabbitmq"
USER_ID = 999
