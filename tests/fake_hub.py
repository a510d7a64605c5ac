"""A model hub on loopback, as much of one as the real client needs for a snapshot: the model's info and its files."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves the files of a folder as `org/name` at `COMMIT`; `asked` are the paths of all requests."""

    def __init__(self, folder, repository="org/name", *, commit=COMMIT, status=200):
        self.folder, self.repository, self.commit, self.status = folder, repository, commit, status
        self.asked = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def files(self):
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def answer(self, request, *, body):
        path = request.path.partition("?")[0]
        self.asked.append(path)
        info = f"/api/models/{self.repository}/revision/"
        resolve = f"/{self.repository}/resolve/"
        if self.status != 200:
            self._send(request, self.status, b"", {}, body)
        elif path.startswith(info):
            if path.removeprefix(info) != COMMIT:
                self._send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
                return
            said = {"id": self.repository, "sha": self.commit, "siblings": [{"rfilename": n} for n in self.files()]}
            self._send(request, 200, json.dumps(said).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith(resolve):
            commit, _, name = path.removeprefix(resolve).partition("/")
            raw = (self.folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(raw).hexdigest()}"', "X-Repo-Commit": commit}
            self._send(request, 200, raw, headers, body)
        else:
            self._send(request, 404, b"", {"X-Error-Code": "RepoNotFound"}, body)

    def _send(self, request, status, raw, headers, body):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(raw)))
        request.end_headers()
        if body:
            request.wfile.write(raw)
