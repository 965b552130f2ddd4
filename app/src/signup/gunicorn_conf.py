"""gunicorn's configuration: `gunicorn -c python:signup.gunicorn_conf signup.wsgi:app`.

Read in gunicorn's master, so that wrong settings end it with exit code 78 before a worker is started.
"""

from __future__ import annotations

# Loaded before the fork, so that workers share what they have in common and start at once. Pools and clients are no part of
# it: `preload_app` is off, so each worker makes the application for itself.
from signup import factory as _factory  # noqa: F401
from signup.gunicorn_log import AccessLogger
from signup.gunicorn_worker import Worker
from signup.health import latch as _latch  # made before the fork, so that all workers share it  # noqa: F401
from signup.logs import logging_config
from signup.settings import load_or_exit, load_settings

_settings = load_or_exit(load_settings)

bind = f"0.0.0.0:{_settings.port}"
worker_class = "signup.gunicorn_worker.Worker"
Worker.body_seconds = _settings.body_seconds
workers = _settings.workers
threads = _settings.threads
# Above the load balancer's idle timeout (60 s), so that it never reuses a connection as it is being closed here.
keepalive = 75
timeout = 30
# As long as the load balancer drains, and below the unit's TimeoutStopSec, so that requests under way finish.
graceful_timeout = _settings.drain_seconds
worker_tmp_dir = "/dev/shm"  # noqa: S108 - heartbeats must not wait for a disk
control_socket_disable = True
# The application, with its pools and clients, is made in each worker, after the fork.
preload_app = False
logger_class = AccessLogger
logconfig_dict = logging_config(_settings.log_level)
