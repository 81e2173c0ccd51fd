#!/usr/bin/env python3
"""Measures dbtrigger beside its peers, all in one run, and prints the tables of docs/benchmarks.md.

    cargo build --release --locked
    python3 tests/benchmarks/figures.py

Needs rustc (for the empty program) and, once, PyPI: the peers go into a private environment below target/.
A figure is the median of its runs; beside it stand the smallest and the largest.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "target", "release", "dbtrigger")
PEERS = os.path.join(ROOT, "target", "tmp", "peers")
LATENCY_MS = 50

# What the guide does by hand, with the vendor's own Python client: the same objects, one call each.
PEER = """
import base64, time
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import jobs, workspace
w = WorkspaceClient()
me = w.current_user.me().user_name
w.secrets.create_scope("peer")
w.secrets.put_secret("peer", "api-key", string_value="dbtc_peer")
folder = f"/Users/{me}/peer"
w.workspace.mkdirs(folder)
w.workspace.import_(folder + "/nb", content=base64.b64encode(b"# Databricks notebook source\\nprint(1)").decode(),
                    format=workspace.ImportFormat.SOURCE, language=workspace.Language.PYTHON, overwrite=True)
w.jobs.create(name="peer", tasks=[jobs.Task(task_key="t", notebook_task=jobs.NotebookTask(notebook_path=folder + "/nb"))])
"""


def run(command, env=None):
    """Wall seconds, peak resident MiB and exit code of one whole process."""
    began = time.perf_counter()
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ if env is None else env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
    )
    _, status, usage = os.wait4(pid, 0)
    return time.perf_counter() - began, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def spread(values, unit, digits):
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def empty_program(folder):
    source, binary = os.path.join(folder, "empty.rs"), os.path.join(folder, "empty")
    with open(source, "w") as file:
        file.write("fn main() {}\n")
    subprocess.run(["rustc", "-O", "-o", binary, source], check=True)
    return binary


def peers():
    python = os.path.join(PEERS, "bin", "python")
    if not os.path.exists(os.path.join(PEERS, "ready")):
        venv.create(PEERS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "databricks-sdk", "databricks-cli", "dbtc", "pyarrow<18"], check=True)
        open(os.path.join(PEERS, "ready"), "w").close()
    return python


def start_up(folder):
    peers()
    programs = [
        ("an empty Rust program", [empty_program(folder)]),
        ("`dbtrigger --version`", [PROGRAM, "--version"]),
        ("`databricks --version` (databricks-cli of PyPI, the guide's)", [os.path.join(PEERS, "bin", "databricks"), "--version"]),
        ("`dbtc --version`", [os.path.join(PEERS, "bin", "dbtc"), "--version"]),
    ]
    print("| start-up | wall | peak memory |\n|---|---|---|")
    for name, command in programs:
        runs = 60 if command[0].startswith((folder, PROGRAM)) else 5
        run(command)
        measured = [run(command) for _ in range(runs)]
        walls, peaks = [wall * 1000 for wall, _, _ in measured], [peak for _, peak, _ in measured]
        print(f"| {name} | {spread(walls, 'ms', 1)} | {spread(peaks, 'MiB', 1)} |")


class Sandbox:
    """`dbtrigger sandbox` with a delay on each request, and its log."""

    def __init__(self, folder):
        self.log = os.path.join(folder, "requests.log")
        command = [PROGRAM, "sandbox", "-o", "json", "--latency", f"{LATENCY_MS}ms", "--speed", "100000", "--log", self.log]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.variables = json.loads(self.process.stdout.readline())
        self.env = {name: os.environ[name] for name in ("PATH",)} | self.variables | {"HOME": folder}

    def lines(self):
        with open(self.log) as file:
            return [json.loads(line) for line in file]

    def measure(self, name, command):
        before = len(self.lines()) if os.path.exists(self.log) else 0
        wall, peak, code = run(command, self.env)
        lines = [line for line in self.lines()[before:] if line["service"] != "none"]
        # The notebook asks dbt too; its requests are the workflow's, not ours.
        ours = [line for line in lines if "python-requests" not in line.get("agent", "") and line.get("agent") != "dbtrigger-notebook"]
        writes = sum(line["writes"] for line in ours)
        connections = len({line["connection"] for line in ours})
        print(f"| {name} | {wall * 1000:.0f} ms | {len(ours)} ({writes}) | {connections} | {peak:.1f} MiB | {code} |")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def commands(folder):
    sandbox = Sandbox(folder)
    print(f"\n| at {LATENCY_MS} ms a request | wall | requests (writes) | connections | peak memory | exit |\n|---|---|---|---|---|---|")
    for times in ("first", "again"):
        sandbox.measure(f"`init-secrets --grant data-engineers`, {times}", [PROGRAM, "init-secrets", "--grant", "data-engineers"])
        sandbox.measure(f"`deploy-notebook`, {times}", [PROGRAM, "deploy-notebook"])
        sandbox.measure(f"`create-workflow --job 222222`, {times}", [PROGRAM, "create-workflow", "--job", "222222"])
    for times in ("first", "again"):
        sandbox.measure(f"`run 222222`, {times}", [PROGRAM, "run", "222222"])
    sandbox.measure("`run 222222 --idempotency-key k`, first", [PROGRAM, "run", "222222", "--idempotency-key", "k"])
    sandbox.measure("`run 222222 --idempotency-key k`, again", [PROGRAM, "run", "222222", "--idempotency-key", "k"])
    script = os.path.join(folder, "peer.py")
    with open(script, "w") as file:
        file.write(PEER)
    sandbox.measure("peer: databricks-sdk, the first three in one process", [os.path.join(PEERS, "bin", "python"), script])
    sandbox.stop()


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    print(f"{model.group(1) if model else 'unknown processor'}, {os.cpu_count()} processors, binary {os.path.getsize(PROGRAM) / 1048576:.1f} MiB\n")


def main():
    if not os.path.exists(PROGRAM):
        sys.exit("build first: cargo build --release --locked")
    with tempfile.TemporaryDirectory() as folder:
        machine()
        start_up(folder)
        commands(folder)


main()
