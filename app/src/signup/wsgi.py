"""The WSGI application that gunicorn serves."""

from __future__ import annotations

import atexit

from signup.factory import create_app
from signup.health.latch import INSTANCE_LATCH
from signup.health.service import warm_up
from signup.metrics.reporter import Reporter
from signup.services import services
from signup.settings import load_or_exit, load_settings

app = create_app(load_or_exit(load_settings), latch=INSTANCE_LATCH)
with app.app_context():
    warm_up(services())
    _reporter = Reporter(services(), app.extensions["signup.requests"])
_reporter.start()
atexit.register(_reporter.close)
