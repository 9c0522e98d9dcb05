"""The MLflow tracking store. MLflow is imported here and nowhere else.

Imports ``design``, ``records`` and ``storage``.
"""

import os
import warnings

# Set before any module of this package imports MLflow, which reads some of these as it loads.
# MLflow's defaults retry a dead server for minutes; a study must report it within seconds.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it prints one URL per ended run
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no data leaves the machine without consent

# MLflow imports tqdm, which warns in a notebook that it has no widgets for its bars; none is shown here.
warnings.filterwarnings("ignore", message="IProgress not found")
