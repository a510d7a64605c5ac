"""SIGTERM while a job starts."""

import subprocess
import sys

IN_A_CALLBACK = """
import os, signal
from stream_jobs.jobs_cli import stop_at_once_on_sigterm

class Import:
    def __del__(self):  # what is raised here is swallowed, as in a callback of the import machinery
        os.kill(os.getpid(), signal.SIGTERM)

stop_at_once_on_sigterm()
held = Import()
del held
print("goes on")
"""


def test_it_ends_the_process_wherever_it_comes():
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
