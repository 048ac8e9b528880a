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
import time
import urllib.error
import urllib.request

SERVER, TOKEN_FILE = sys.argv[1], sys.argv[2]
WORKER, STOPPING = f"python-{os.getpid()}", threading.Event()


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
        except urllib.error.HTTPError as error:
            if error.code in (404, 409):
                return None
            if error.code < 500:
                raise SystemExit(f"{path}: {error.code} {error.read().decode()}")
        except OSError:
            if STOPPING.is_set() and path == "/workers:poll":
                return None
        time.sleep(1)  # Every call is safe to repeat.


def carry_out(lease):
    lost, cancelled, ended = threading.Event(), threading.Event(), threading.Event()
    def heartbeat():
        while not ended.wait(lease["leaseTtlMs"] / 3000):
            answer = post(f"/leases/{lease['token']}:heartbeat", {})
            if answer is None or answer["verdict"] != "continue":
                (cancelled if answer and answer["verdict"] == "cancel" else lost).set()
                return cancelled.set()

    threading.Thread(target=heartbeat, daemon=True).start()
    try:
        verb, body = "complete", {"outputs": ACTIONS[lease["action"]](lease["with"], cancelled)}
    except InterruptedError:
        verb, body = "fail", {"kind": "cancelled"}
    except Exception as error:
        verb, body = "fail", {"code": "PYTHON_ERROR", "message": repr(error), "retryable": False}
    ended.set()
    if not lost.is_set():
        post(f"/leases/{lease['token']}:{verb}", body)


def stop(*_):
    STOPPING.set()
    raise InterruptedError  # Ends the poll, or the step, which is given back.


signal.signal(signal.SIGTERM, stop)
while not STOPPING.is_set():
    for lease in (post("/workers:poll", {"plugins": ["core"]}) or {"leases": []})["leases"]:
        carry_out(lease)
