"""Every process opens the port that TF_CONFIG gives it, and calls all the others at theirs.

A parameter server goes on for ever, as TensorFlow's do: it is ended when all workers have ended.
"""

import json
import os
import socket
import threading
import time
from pathlib import Path

config = json.loads(os.environ["TF_CONFIG"])
kind, index = config["task"]["type"], config["task"]["index"]
own = config["cluster"][kind][index]
others = {
    (other, number): address
    for other, addresses in config["cluster"].items()
    for number, address in enumerate(addresses)
    if address != own
}
called: set[str] = set()


def serve(server: socket.socket) -> None:
    """Tell each caller who this is, and remember who called."""
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            print(f"{kind} {index}", file=stream, flush=True)
            called.add(stream.readline().strip())


def call(address: str) -> str:
    """Who answers at an address; it may take them a while to be there."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection((host, int(port)), timeout=10)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            with connection, connection.makefile("rw") as stream:
                print(f"{kind} {index}", file=stream, flush=True)
                return stream.readline().strip()


server = socket.create_server(("", int(own.rpartition(":")[2])))
threading.Thread(target=serve, args=(server,), daemon=True).start()
for (other, number), address in others.items():
    answer = call(address)
    assert answer == f"{other} {number}", f"{address} is not {other} {number}, but {answer}"
while len(called) < len(others):
    time.sleep(0.05)
print(f"{kind} {index} at {own} talked to {', '.join(sorted(called))}", flush=True)

if kind == "ps":
    threading.Event().wait()
Path("outputs", f"{kind}{index}.json").write_text(json.dumps(config) + "\n")
