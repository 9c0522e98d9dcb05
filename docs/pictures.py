"""Make the README's picture from the last `make study-depth`: the top of the report's page, as Chromium shows it.

Command: `make docs`. Needs Debian's `chromium`, or the program named by CHROMIUM.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path("runs/reports/depth-digits/index.html")
PICTURE = Path(__file__).with_name("report.png")
SIZE = "880,800"  # down to the caption of the figure


def main() -> int:
    """Write the picture; 1 where the page or the browser is missing."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not PAGE.exists() or not browser:
        print(f"needs {PAGE} (make study-depth) and chromium (or CHROMIUM=PROGRAM)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command += ["--force-device-scale-factor=2"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={profile}", f"--window-size={SIZE}", f"--screenshot={PICTURE}"]
        subprocess.run([*command, PAGE.absolute().as_uri()], check=True, capture_output=True)
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
