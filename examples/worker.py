#!/usr/bin/env python3
"""A worker in Python, standard library only: works off steps of the plugin `core`.
    stella orch serve --concurrency 0
    examples/worker.py http://127.0.0.1:7787 ./stella-data/token
"""
import json
import os
import signal
import sys
import threading
import urllib.request

SERVER, TOKEN_FILE = sys.argv[1], sys.argv[2]
WORKER, SIGNALS = f"python-{os.getpid()}", {signal.SIGTERM, signal.SIGINT}
STOPPING = running = threading.Event()  # `running` ends the step that is under way.


def sleep(inputs, cancelled):
    if cancelled.wait(inputs.get("ms", 0) / 1000):
        raise InterruptedError
    return {}


ACTIONS = {"noop": lambda inputs, _: {}, "echo": lambda inputs, _: inputs, "sleep": sleep}


def post(path, body):
    """The answer's body, or None where the lease is no longer ours."""
    with open(TOKEN_FILE) as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
    data = json.dumps({"workerId": WORKER, **body}).encode()
    request = urllib.request.Request(f"{SERVER}/api/v1/orchestrator{path}", data, headers)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)
        except OSError as error:
            code = getattr(error, "code", 503)
            if code in (404, 409):
                return None
            if code < 500:
                raise SystemExit(f"{path}: {code} {error.read().decode()}")
        if STOPPING.wait(1):
            return None  # Otherwise once more: every call is safe to repeat.


def carry_out(lease):
    global running
    running = cancelled = threading.Event()
    ended = threading.Event()
    def heartbeat():
        while not ended.wait(lease["leaseTtlMs"] / 3000):
            answer = post(f"/leases/{lease['token']}:heartbeat", {})
            if answer is None or answer["verdict"] != "continue":
                return cancelled.set()
    threading.Thread(target=heartbeat, daemon=True).start()
    try:
        if STOPPING.is_set():
            raise InterruptedError  # Given back: it is queued again, and nothing counts against it.
        verb, body = "complete", {"outputs": ACTIONS[lease["action"]](lease["with"], cancelled)}
    except InterruptedError:
        verb, body = "fail", {"kind": "cancelled"}
    except Exception as error:
        verb, body = "fail", {"code": "PYTHON_ERROR", "message": repr(error), "retryable": False}
    ended.set()
    post(f"/leases/{lease['token']}:{verb}", body)


def stop():
    signal.sigwait(SIGNALS)
    STOPPING.set()
    running.set()


signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
threading.Thread(target=stop, daemon=True).start()
while not STOPPING.is_set():
    for lease in (post("/workers:poll", {"plugins": ["core"], "waitMs": 5000}) or {"leases": []})["leases"]:
        carry_out(lease)
