# Answers 200 or 503 on port 8008: /master on the primary, /replica on a standby. HAProxy asks.
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer

QUERY = ["psql", "-U", "postgres", "-d", "postgres", "-p", "5432", "-tc", "SELECT pg_is_in_recovery();"]


def recovering():
    try:
        r = subprocess.run(QUERY, capture_output=True, text=True, timeout=5)
        return {"t": True, "f": False}.get(r.stdout.strip()) if r.returncode == 0 else None
    except Exception:
        return None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        s = recovering()
        ok = s is not None and ((self.path in ("/", "/master") and not s) or (self.path == "/replica" and s))
        self.send_response(200 if ok else 503)
        self.end_headers()
        try:
            self.wfile.write(b"OK\n" if ok else b"Service Unavailable\n")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *args):
        pass


HTTPServer(("", 8008), Handler).serve_forever()
