"""Runs that span processes, on Ray. The only package of the core that imports it."""

from __future__ import annotations

import os

from corelab.errors import ConfigError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray would print among our lines; its logs have it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it announces that its default will change
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean what they mean here
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how soon the death of a worker is seen
}
"""What Ray is told, unless the environment says otherwise; some of it is read on import."""

for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)

try:
    import ray  # noqa: F401 - only whether it is there
except ModuleNotFoundError as error:
    raise ConfigError(
        "--workers, --rollout-workers and sweeps need Ray: pip install 'corelab-ml[ray]'"
    ) from error
