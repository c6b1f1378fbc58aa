"""Preloaded into a fork server, and imported nowhere else: the server ends with the process that has started it."""

import os
import signal

from nemo_adapt.machine import workers

workers.signal_when_parent_ends(signal.SIGKILL, os.getppid())
