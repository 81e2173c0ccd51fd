#!/usr/bin/env python3
"""Measures dbtrigger and comparable tools in one run and prints the tables of docs/benchmarks.md.

    cargo build --release --locked --no-default-features --features sandbox
    PEER_CLI=/path/to/databricks python3 tests/benchmarks/figures.py [side-by-side]
    WHEEL=target/wheels/... python3 tests/benchmarks/figures.py install
    python3 tests/benchmarks/figures.py profiles

`side-by-side` prints only the last table: the steps of the guide, also with the Databricks CLI if PEER_CLI is set.
`install` measures the seconds from nothing to the end of `dbtrigger demo`: with pip and uv (on the PATH) from WHEEL,
and with cargo from this checkout. `profiles` compares release profiles and takes half an hour.
PROGRAM selects another dbtrigger binary. Everything else needs rustc (for the empty program), GNU time (Debian package
`time`) and, the first time, PyPI: the other tools are installed in an environment below target/. Each figure is a
median, followed by minimum and maximum.
"""
import datetime
import json
import os
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("PROGRAM") or os.path.join(ROOT, "target", "release", "dbtrigger")
PEER_CLI = os.environ.get("PEER_CLI")
PEERS = os.path.join(ROOT, "target", "tmp", "peers")
LATENCY_MS = 50
CONNECT_MS = 100
TIME = shutil.which("time")
# At this speed a dbt run takes a quarter of a second, and minutes between two starts with the same idempotency key stay
# well within the 7 days for which runs with the key are searched.
SPEED = 1000

# The guide's steps with Databricks' Python SDK: the same objects, one call each.
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
    """Returns wall time in seconds and exit code of a process."""
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
    _, status = os.waitpid(pid, 0)
    return time.perf_counter() - began, os.waitstatus_to_exitcode(status)


def peak(command, folder, env=None):
    """Returns peak resident memory in MiB and exit code of a process.

    Started by GNU time, because a process inherits its parent's peak through exec: started from here, no program would
    seem smaller than this Python."""
    report = os.path.join(folder, "peak")
    _, code = run([TIME, "--quiet", "--format", "%M", "--output", report, *command], env)
    with open(report) as file:
        return int(file.read().split()[-1]) / 1024, code


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
        walls = [wall * 1000 for wall, _ in measured]
        peaks = [peak(command, folder)[0] for _ in range(5)]
        print(f"| {name} | {spread(walls, 'ms', 1)} | {spread(peaks, 'MiB', 1)} |")


class Sandbox:
    """A `dbtrigger sandbox` process with latency and a request log."""

    def __init__(self, folder):
        self.log = os.path.join(folder, "requests.log")
        delays = ["--latency", f"{LATENCY_MS}ms", "--connect-latency", f"{CONNECT_MS}ms"]
        command = [PROGRAM, "sandbox", "-o", "json", *delays, "--speed", str(SPEED), "--log", self.log]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        variables = json.loads(self.process.stdout.readline())
        self.env = {name: os.environ[name] for name in ("PATH",)} | variables | {"HOME": folder}

    def lines(self):
        with open(self.log) as file:
            return [json.loads(line) for line in file]

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Twins:
    """Two sandboxes that run the same commands, so both have the same state: one to measure time and requests, one to
    measure memory."""

    def __init__(self, folder):
        self.folders = [os.path.join(folder, name) for name in ("timed", "weighed")]
        for each in self.folders:
            os.mkdir(each)
        self.timed, self.weighed = map(Sandbox, self.folders)

    def measure(self, name, command, writes_nothing=False):
        before = len(self.timed.lines())
        wall, code = run(command, self.timed.env)
        lines = [line for line in self.timed.lines()[before:] if line["service"] != "none"]
        # Requests from the notebook belong to the workflow, not to the command.
        ours = [line for line in lines if line.get("agent") != "dbtrigger-notebook"]
        writes = sum(line["writes"] for line in ours)
        if writes_nothing and writes:
            sys.exit(f"{name} sent {writes} writes where none is due: the figures would show something else")
        connections = len({line["connection"] for line in ours})
        memory, code_again = peak(command, self.folders[1], self.weighed.env)
        if code != code_again:
            sys.exit(f"{name} ended with {code}, and with {code_again} when its memory was measured")
        print(f"| {name} | {wall * 1000:.0f} ms | {len(ours)} ({writes}) | {connections} | {memory:.1f} MiB | {code} |")

    def stop(self):
        self.timed.stop()
        self.weighed.stop()


def commands(folder):
    sandbox = Twins(folder)
    print(f"\n| at {LATENCY_MS} ms a request, {CONNECT_MS} ms a new connection | wall | requests (writes) | connections | peak memory | exit |\n|---|---|---|---|---|---|")
    for times in ("first", "again"):
        sandbox.measure(f"`init-secrets --grant data-engineers`, {times}", [PROGRAM, "init-secrets", "--grant", "data-engineers"], times == "again")
        sandbox.measure(f"`deploy-notebook`, {times}", [PROGRAM, "deploy-notebook"], times == "again")
        sandbox.measure(f"`create-workflow --job 222222`, {times}", [PROGRAM, "create-workflow", "--job", "222222"], times == "again")
    workflow = "dbt: Nightly build (222222)"
    for words in (
        ["create-workflow", "--job", "222222", "--run-as", "bo@example.com", "--grant-run-as"],
        ["create-workflow", "--add-to", workflow, "--job", "222225"],
    ):
        for times in ("first", "again"):
            sandbox.measure(f"`{shlex.join(words)}`, {times}", [PROGRAM, *words], times == "again")
    check = ["create-workflow", "--job", "222222", "--check"]
    sandbox.measure(f"`{shlex.join(check)}`, again, with a run of the notebook", [PROGRAM, *check])
    for times in ("first", "again"):
        sandbox.measure(f"`run 222222`, {times}", [PROGRAM, "run", "222222"])
    for words in (["run", "222222", "300001", "300002"], ["run", "--workflow", workflow]):
        sandbox.measure(f"`{shlex.join(words)}`", [PROGRAM, *words])
    setup = ["setup", "--job", "222222", "-y"]
    sandbox.measure(f"`{shlex.join(setup)}`, with a run of the notebook", [PROGRAM, *setup])
    for words in (
        setup,
        ["doctor"],
        ["jobs"],
        ["runs"],
        ["runs", "--workflow", workflow],
        ["watch", "123456"],
        ["cancel", "123456"],
    ):
        sandbox.measure(f"`{shlex.join(words)}`", [PROGRAM, *words], True)
    sandbox.measure("`run 222222 --idempotency-key k`, first", [PROGRAM, "run", "222222", "--idempotency-key", "k"])
    sandbox.measure("`run 222222 --idempotency-key k`, again", [PROGRAM, "run", "222222", "--idempotency-key", "k"], True)
    script = os.path.join(folder, "peer.py")
    with open(script, "w") as file:
        file.write(PEER)
    sandbox.measure("peer: databricks-sdk, the first three in one process", [os.path.join(PEERS, "bin", "python"), script])
    sandbox.stop()


def settings_of(task):
    return {"name": "peer", "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": task}}]}


class Peer:
    """The guide's five steps with the Databricks CLI, and the job as a bundle. Reads nothing before or after writes."""

    def __init__(self, folder, sandbox):
        self.folder, self.sandbox = folder, sandbox
        self.env = sandbox.env | {"DATABRICKS_CLI_DISABLE_TELEMETRY": "1"}
        self.notebook = os.path.join(folder, "nb.py")
        with open(self.notebook, "w") as file:
            file.write("# Databricks notebook source\nprint(1)\n")
        self.home = "/Users/ana@example.com/peer"
        self.bundle = os.path.join(folder, "bundle")
        os.makedirs(os.path.join(self.bundle, "src"))
        shutil.copy(self.notebook, os.path.join(self.bundle, "src", "nb.py"))
        with open(os.path.join(self.bundle, "databricks.yml"), "w") as file:
            # JSON is valid YAML.
            json.dump({"bundle": {"name": "peer"}, "resources": {"jobs": {"one": settings_of("./src/nb.py")}}}, file)

    def steps(self, again):
        """Returns the steps; with `again`, those that can be repeated, with the job replaced by its id."""
        settings = os.path.join(self.folder, "job.json")
        job = settings_of(f"{self.home}/nb")
        jobs = ["jobs", "create", "--json", f"@{settings}"]
        if again:
            listed = subprocess.run([PEER_CLI, "jobs", "list", "-o", "json"], env=self.env, capture_output=True, check=True)
            made = [job for job in json.loads(listed.stdout) if job["settings"]["name"] == "peer"]
            job = {"job_id": made[0]["job_id"], "new_settings": job}
            jobs = ["jobs", "reset", "--json", f"@{settings}"]
        with open(settings, "w") as file:
            json.dump(job, file)
        where = ["--file", self.notebook, "--format", "SOURCE", "--language", "PYTHON", "--overwrite"]
        steps = [
            ["secrets", "create-scope", "peer"],
            ["secrets", "put-secret", "peer", "api-key", "--string-value", "dbtc_peer"],
            ["workspace", "mkdirs", self.home],
            ["workspace", "import", f"{self.home}/nb", *where],
            jobs,
        ]
        return [[PEER_CLI, *step] for step in (steps[1:] if again else steps)]


def side_by_side(folder):
    """Measures the guide's steps one after another; wall times are added up."""
    sandbox = Sandbox(folder)

    def measure(name, commands, env=None, cwd=None, before_check=False):
        before, total = len(sandbox.lines()), 0
        for command in commands:
            began = time.perf_counter()
            ended = subprocess.run(command, env=env or sandbox.env, cwd=cwd, capture_output=True)
            total += time.perf_counter() - began
            if ended.returncode:
                sys.exit(f"{shlex.join(command)} ended with {ended.returncode}: {ended.stderr.decode()}")
        lines = [line for line in sandbox.lines()[before:] if line.get("agent") != "dbtrigger-notebook"]
        if before_check:
            # Counts from connecting until the request that looks for earlier checks.
            count = next(place for place, line in enumerate(lines) if "/runs/" in line["path"])
            first, last = (datetime.datetime.fromisoformat(lines[place]["time"]) for place in (0, count))
            total, lines = (last - first).total_seconds() / SPEED + CONNECT_MS / 1000, lines[:count]
        connections = len({line["connection"] for line in lines})
        writes = sum(line["writes"] for line in lines)
        print(f"| {name} | {total * 1000:.0f} ms | {len(lines)} ({writes}) | {connections} |")

    print(f"\n| side by side, at {LATENCY_MS} ms a request, {CONNECT_MS} ms a new connection | wall | requests (writes) | connections |")
    print("|---|---|---|---|")
    three = [[PROGRAM, "init-secrets"], [PROGRAM, "deploy-notebook"], [PROGRAM, "create-workflow", "--job", "222222"]]
    setup = [PROGRAM, "setup", "--job", "222222", "-y"]
    for times in ("first", "again"):
        measure(f"`init-secrets`, `deploy-notebook`, `create-workflow`, {times}", three)
    sandbox.stop()
    fresh = os.path.join(folder, "fresh")
    os.mkdir(fresh)
    sandbox = Sandbox(fresh)
    for times in ("first", "again"):
        measure(f"`setup -y` up to its check, {times}", [setup], before_check=True)
    if PEER_CLI:
        peer = Peer(folder, sandbox)
        for times in ("first", "again"):
            measure(f"peer: Databricks CLI, {'five commands' if times == 'first' else 'the four that work again'}, {times}", peer.steps(times == "again"), peer.env)
        for times in ("first", "again"):
            measure(f"peer: `databricks bundle deploy`, {times}", [[PEER_CLI, "bundle", "deploy"]], peer.env, peer.bundle)
    sandbox.stop()


def install(folder):
    """Measures from nothing to the end of the demo: no caches but cargo's downloads, no `requests` in Python."""
    wheel, uv, cargo = os.path.abspath(os.environ["WHEEL"]), shutil.which("uv"), shutil.which("cargo")
    if uv is None:
        sys.exit("uv is not on the PATH; packaging/wheel.sh leaves one in target/packaging/bin")
    bare, tools = os.path.join(folder, "bare"), os.path.join(folder, "pip", "venv", "bin")
    venv.create(bare, with_pip=True)
    python = os.path.join(bare, "bin", "python3")
    ways = [
        ("`pip install 'dbtrigger[demo]'` into a new environment, `dbtrigger demo`", "pip", [
            [python, "-m", "venv", os.path.dirname(tools)],
            [os.path.join(tools, "pip"), "install", f"{wheel}[demo]"],
            [os.path.join(tools, "dbtrigger"), "demo"],
        ]),
        ("`uvx dbtrigger demo`", "uv", [[uv, "tool", "run", "--python", python, "--from", wheel, "dbtrigger", "demo"]]),
        ("`cargo run -- demo`, crates downloaded before", "cargo", [[cargo, "run", "--locked", "--", "demo"]]),
    ]
    subprocess.run([cargo, "fetch", "--locked"], cwd=ROOT, check=True, capture_output=True)
    print("| from nothing to the end of the demo | seconds |\n|---|---|")
    for name, home, commands in ways:
        home = os.path.join(folder, home)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "DATABRICKS_"))} | {
            "PATH": os.pathsep.join([os.path.join(bare, "bin"), os.path.dirname(cargo), "/usr/bin", "/bin"]),
            "CARGO_TARGET_DIR": os.path.join(home, "target"),
            **{f"XDG_{kind}_HOME": os.path.join(home, kind) for kind in ("CACHE", "CONFIG", "STATE")},
        }
        began = time.perf_counter()
        for command in commands:
            subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True)
        print(f"| {name} | {time.perf_counter() - began:.1f} |", flush=True)


# (opt-level, lto, codegen-units)
PROFILES = [("s", "fat", 1), ("z", "fat", 1), ("z", "fat", 16), ("z", "thin", 16)]


def profiles(folder):
    """Measures clean release builds with crates already downloaded. Each build is deleted before the next."""
    subprocess.run(["cargo", "fetch", "--locked"], cwd=ROOT, check=True, capture_output=True)
    print("| opt-level, lto, codegen-units | build | of all processors | bytes | `--version` |\n|---|---|---|---|---|")
    for profile in PROFILES:
        target = os.path.join(folder, "target")
        names = ("OPT_LEVEL", "LTO", "CODEGEN_UNITS")
        env = os.environ | {f"CARGO_PROFILE_RELEASE_{name}": str(value) for name, value in zip(names, profile)}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--no-default-features", "--features", "sandbox"], cwd=ROOT, env=env | {"CARGO_TARGET_DIR": target}, check=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        program = os.path.join(target, "release", "dbtrigger")
        starts = [run([program, "--version"])[0] * 1000 for _ in range(60)]
        print(f"| {', '.join(map(str, profile))} | {wall:.0f} s | {busy:.0f} s | {os.path.getsize(program):,} | {spread(starts, 'ms', 1)} |", flush=True)
        shutil.rmtree(target)


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    print(f"{model.group(1) if model else 'unknown processor'}, {os.cpu_count()} processors, binary {os.path.getsize(PROGRAM) / 1048576:.1f} MiB\n")


def main():
    if sys.argv[1:] in (["install"], ["profiles"]):
        with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "target")) as folder:
            return {"install": install, "profiles": profiles}[sys.argv[1]](folder)
    if not os.path.exists(PROGRAM):
        sys.exit("build first: cargo build --release --locked --no-default-features --features sandbox")
    if sys.argv[1:] == ["side-by-side"]:
        with tempfile.TemporaryDirectory() as folder:
            return side_by_side(folder)
    if TIME is None:
        sys.exit("GNU time is needed to measure memory: apt install time")
    with tempfile.TemporaryDirectory() as folder:
        machine()
        start_up(folder)
        commands(folder)
        side_by_side(folder)


main()
