"""Starts the embedded ClickHouse as its users do, as a process, and asks it over HTTP."""

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0


class Front:
    """One running front; `stop` or `kill` ends it. `start` again on the same folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "infra.embedded.clickhouse_front", "--data", str(self.folder)]
        command += ["--die-with-parent", str(os.getpid()), *self.arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, f"the front ended with {self.process.wait(READY_S)} before it was ready"
        self.ready = json.loads(line)
        self.port = int(self.ready["url"].rsplit(":", 1)[1])

    def client(self, **settings):
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, **settings)

    def ask(self, body=b"", method="POST", path="/", headers=(), **parameters):
        """(status, headers, body) of one plain HTTP request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            target = f"{path}?{urlencode(parameters)}" if parameters else path
            connection.request(method, target, body if method == "POST" else None, dict(headers))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.process.stdout.close()

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


def wait_until(condition, what, deadline_s=30.0):
    """Asks until the condition holds; fails after the deadline."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)
