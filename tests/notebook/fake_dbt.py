"""A small dbt Cloud for the notebook's own tests, and the client of `notebook_runner.py`.

It has one account and a few jobs, and supports the fault rules of `tests/protocol`. The Rust tests run the same cases
against the whole sandbox; this one needs only Python.
"""

import base64
import datetime
import gzip
import json
import os
import re
import subprocess
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
START = 1_767_225_600_000
ACCOUNT = 51234
TOKEN = "dbtc_0123456789abcdefABCDEF+/=x"
HOST = "https://sandbox.invalid"
QUEUED, STARTING, RUNNING, SUCCESS, ERROR, CANCELLED = 1, 2, 3, 10, 20, 30
NAMES = {1: "Queued", 2: "Starting", 3: "Running", 10: "Success", 20: "Error", 30: "Cancelled"}
OUTCOMES = {222222: SUCCESS, 222223: ERROR, 222224: CANCELLED, 222226: SUCCESS}
TRANSPORT = {
    "no-name", "refused", "blackhole", "tls", "certificate", "proxy", "reset", "close", "hang", "reset-after-head",
    "reset-in-body", "silence", "truncated", "drip", "huge", "kill",
}  # fmt: skip


def render(**changes):
    settings = {
        "dbt_host": HOST,
        "account_id": str(ACCOUNT),
        "secret_scope": "dbt-cloud",
        "secret_key": "api-key",
        "override_keys": [],
        "job_ids": [],
        **changes,
    }
    with open(os.path.join(ROOT, "templates", "run_dbt_job.py"), encoding="ascii") as template:
        return template.read().replace("@@DBTRIGGER_SETTINGS@@", json.dumps(settings))


class FaultRule:
    """OPERATION=CLASS[,phase=before|after][,nth=N][,times=M|forever]"""

    def __init__(self, text):
        self.operation, _, rest = text.partition("=")
        parts = rest.split(",")
        self.kind, options = parts[0], dict(part.split("=") for part in parts[1:])
        self.after = options.pop("phase", "before") == "after"
        self.nth = int(options.pop("nth", 1))
        times = options.pop("times", "1")
        self.times = 10**9 if times == "forever" else int(times)
        assert not options, text
        self.seen = 0

    def strikes(self, operation):
        exact = operation == self.operation
        if not exact and not (self.operation.endswith("*") and operation.startswith(self.operation[:-1])):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class FakeDbt:
    def __init__(self, lag_ms=0, fresh_404_ms=0, faults=(), jobs=None, service=None):
        self.lag, self.fresh_404 = lag_ms, fresh_404_ms
        self.rules = [FaultRule(text) for text in faults]
        self.runs, self.next_id, self.now = [], 123456, START
        self.log, self.posts, self.cancels, self.retries = [], 0, [], 0
        self.triggers_at = []
        self.strange = []  # runs the service returned by mistake
        self.duplicate_run_delays_ms = []  # when further runs with its cause appear, in ms after the first POST
        self.null_triggers = False
        self.echo = self.denied = None
        self.jobs = jobs or {}
        self.falling = (service or {}).get("ids") == "falling"  # newer runs have lower ids
        self.service = service or {}  # `service` of a protocol case
        self.other_caller = None  # (number, job, cause): another caller triggers the job before that request
        self.ending = None  # what ended runs look like: a case of tests/failures
        self.padding = ""  # other content of its artifacts
        self.upload = 5_000  # delay until artifacts are available, in ms

    # Progress of runs. Runs of one job do not overlap.
    def create(self, job, cause, at, category="api", resumes=None, body=None, outcome=None):
        run = {
            "id": self.next_id, "job": job, "cause": cause, "at": at, "category": category, "resumes": resumes,
            "body": body or {}, "cancelled": None, "outcome": outcome or OUTCOMES.get(job, SUCCESS),
        }  # fmt: skip
        self.next_id += 1
        self.runs.append(run)
        return run

    def spans(self, run):
        """Returns when it leaves the queue, starts running, and ends."""
        before = [other for other in self.runs if other["job"] == run["job"] and other["id"] < run["id"]]
        free = max([self.spans(other)[2] for other in before[-1:]] + [run["at"]])
        begin, start, end = free + 10_000, free + 30_000, free + 240_000
        if run["outcome"] == CANCELLED:
            end = free + 90_000
        if run["cancelled"] is not None and run["cancelled"] < end:
            cut = run["cancelled"]
            return min(begin, cut), min(start, cut), cut
        return begin, start, end

    def status(self, run):
        begin, start, end = self.spans(run)
        if self.now >= end:
            return CANCELLED if run["cancelled"] is not None and run["cancelled"] <= end else run["outcome"]
        return RUNNING if self.now >= start else STARTING if self.now >= begin else QUEUED

    def worked(self, run):
        begin, start, end = self.spans(run)
        return start < end and self.now >= start

    def latest(self, run):
        return max(other["id"] for other in self.runs if other["job"] == run["job"]) == run["id"]

    def view(self, run, include=()):
        status = self.status(run)
        moment = datetime.datetime.fromtimestamp(run["at"] / 1000, datetime.timezone.utc)
        shown = {
            "id": self.reported_id(run["id"]), "account_id": ACCOUNT, "project_id": 4101, "status": status,
            "job_definition_id": run["job"],
            "status_humanized": NAMES[status], "status_message": "Cancelled by user." if status == CANCELLED else None,
            "is_complete": status >= 10, "is_success": status == 10, "is_error": status == 20,
            "is_cancelled": status == 30,
            "created_at": moment.strftime("%Y-%m-%d %H:%M:%S.%f+00:00"), "started_at": None, "finished_at": None,
            "retrying_run_id": self.reported_id(run["resumes"]), "can_retry": status == ERROR and self.latest(run),
            "retry_not_supported_reason": None if self.latest(run) else "RETRY_NOT_LATEST_RUN",
           
            "href": f"{HOST}/deploy/{ACCOUNT}/projects/4101/runs/{run['id']}/", "trigger": None, "run_steps": [],
        }  # fmt: skip
        if "trigger" in include:
            shown["trigger"] = {"id": 1, "cause": run["cause"], "cause_category": run["category"], **run["body"]}
        if "run_steps" in include:
            names = ["Clone git repository", "Create profile from connection Warehouse", "Invoke dbt with `dbt deps`"]
            names.append("Invoke dbt with `dbt build`")
            shown["run_steps"] = [
                {"index": i, "name": name, "status": ERROR if status == ERROR and i == 4 else SUCCESS, "logs": "..."}
                for i, name in enumerate(names, 1)
            ]
        if self.ending and status >= 10:
            job = self.ending["job"]
            shown.update(self.ending["run"], artifacts_saved=self.uploaded(run), job=job if "job" in include else None)
            if "run_steps" in include:
                names = {30: "Skipped"}
                shown["run_steps"] = [
                    {"index": i, "name": name, "status": status, "status_humanized": names.get(status), "logs": log}
                    for i, (name, status, log) in enumerate(((step + [None])[:3] for step in self.ending["steps"]), 1)
                ][::-1]
        return shown

    def uploaded(self, run):
        return self.now >= self.spans(run)[2] + self.upload

    # Responses.
    def envelope(self, data, code=200, extra=None, user_message="Success!", headers=None):
        value = {
            "status": {"code": code, "is_success": code < 400, "user_message": user_message, "developer_message": ""},
            "data": data,
        }
        if extra is not None:
            value["extra"] = extra
        return self.raw(code, json.dumps(value).encode(), headers=headers)

    def raw(self, code, body, kind="application/json", headers=None):
        date = datetime.datetime.fromtimestamp(self.now / 1000, datetime.timezone.utc)
        headers = {"Content-Type": kind, "Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT"), **(headers or {})}
        return {"status": code, "headers": headers, "body_base64": base64.b64encode(body).decode()}

    def failed(self, code, headers=None, said=None):
        said = said or {401: "Invalid token.", 403: "Forbidden: Access denied"}.get(code, "No.")
        if self.echo:
            said += " " + self.echo
        if code in (502, 504):
            return self.raw(code, b"<html><title>Bad gateway</title></html>", "text/html")
        if code == 503:
            return self.raw(code, b"")
        return self.envelope(self.denied, code, user_message=said, headers=headers)

    def apply_fault(self, kind, answer):
        name, _, value = kind.partition("=") if "=" in kind else (kind, "", "")
        if name in TRANSPORT:
            return {"cut": name, "head": answer}
        if name == "status":
            return self.failed(int(value))
        if name == "retry-after":
            return self.failed(429, {"Retry-After": value})
        if name == "retry-after-huge":
            return self.failed(429, {"Retry-After": "999999999"})
        if name == "retry-after-date":
            date = datetime.datetime.fromtimestamp(self.now / 1000 + int(value), datetime.timezone.utc)
            return self.failed(429, {"Retry-After": date.strftime("%a, %d %b %Y %H:%M:%S GMT")})
        if name == "redirect":
            return self.raw(307, b"", headers={"Location": value})
        if name == "login":
            return self.raw(200, b"<!doctype html><title>Sign in</title>", "text/html")
        if name == "gzip-bomb":
            return self.raw(200, gzip.compress(bytes(1 << 26)), headers={"Content-Encoding": "gzip"})
        bodies = {
            "empty": b"", "bad-utf8": b"\xff\xfe{", "deep": b"[" * 100_000 + b"]" * 100_000,
            "missing-field": b'{"status": {"code": 200, "is_success": true}}',
            "null-data": b'{"status": {"code": 200, "is_success": true}, "data": null}',
            "wrong-type": b'{"status": {"code": 200, "is_success": true}, "data": "text"}',
        }  # fmt: skip
        if name in bodies:
            return self.raw(200, bodies[name])
        if name == "unknown-status":
            text = base64.b64decode(answer["body_base64"]).decode()
            text = re.sub(r'"status": [0-9]+', '"status": 99', text)
            for flag in ("is_complete", "is_success", "is_error", "is_cancelled"):
                text = re.sub(rf'("id".*?"{flag}"): true', r"\1: false", text)
            return self.raw(200, text.encode())
        raise AssertionError(kind)

    def answer(self, request):
        self.now = request["now"]
        self.fresh_runs()
        url = urllib.parse.urlsplit(request["url"])
        query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        operation, function, groups = self.route(request["method"], url.path)
        self.log.append((self.now - START, operation, url.query))
        if self.other_caller and len(self.log) >= self.other_caller[0]:
            _, job, cause = self.other_caller
            self.other_caller = None
            self.create(job, cause, self.now)
        if self.now < START + self.service.get("limited_s", 0) * 1000:
            return self.failed(429)
        query = {name: value for name, value in query.items() if name not in self.service.get("ignores", ())}
        rule = [rule for rule in self.rules if rule.strikes(operation)][:1]
        self.retries += operation == "dbt:runs/retry"
        if operation == "dbt:jobs/run":
            self.posts += 1
            self.triggers_at.append(self.now)
        if rule and not rule[0].after and request["method"] != "GET":
            harmless = self.raw(200, b'{"status": {"code": 200, "is_success": true}, "data": {"id": 1}}')
            return self.apply_fault(rule[0].kind, harmless)
        if request["headers"].get("Authorization") != "Token " + TOKEN:
            return self.failed(401)
        answer = function(*groups, query, request["body"])
        return self.apply_fault(rule[0].kind, answer) if rule else answer

    def fresh_runs(self):
        for delay in list(self.duplicate_run_delays_ms):
            if self.triggers_at and self.now >= self.triggers_at[0] + delay:
                self.duplicate_run_delays_ms.remove(delay)
                first = next(run for run in self.runs if run["at"] >= self.triggers_at[0])
                self.create(first["job"], first["cause"], self.triggers_at[0] + delay, body=first["body"])

    def route(self, method, path):
        base = f"/api/v2/accounts/{ACCOUNT}"
        for verb, pattern, operation, function in (
            ("GET", r"/jobs/", "dbt:jobs/list", self.list_jobs),
            ("GET", r"/jobs/(\d+)/", "dbt:jobs/get", self.get_job),
            ("POST", r"/jobs/(\d+)/run/", "dbt:jobs/run", self.trigger),
            ("GET", r"/runs/", "dbt:runs/list", self.list_runs),
            ("GET", r"/runs/(\d+)/", "dbt:runs/get", self.get_run),
            ("POST", r"/runs/(\d+)/cancel/", "dbt:runs/cancel", self.cancel),
            ("POST", r"/runs/(\d+)/retry/", "dbt:runs/retry", self.retry),
            ("GET", r"/runs/(\d+)/artifacts/", "dbt:runs/artifacts/list", self.artifacts),
            ("GET", r"/runs/(\d+)/artifacts/run_results.json", "dbt:runs/artifacts/get", self.artifact),
        ):
            found = re.fullmatch(re.escape(base) + pattern, path)
            if found and verb == method:
                return operation, function, [int(group) for group in found.groups()]
        return "dbt:unknown", lambda *_: self.failed(404), []

    def list_jobs(self, query, body):
        return self.envelope([{"id": job, "name": f"Job {job}"} for job in OUTCOMES])

    def get_job(self, job, query, body):
        if job not in OUTCOMES:
            return self.failed(404)
        return self.envelope({"id": job, "name": f"Job {job}", "state": 1, **self.jobs.get(job, {})})

    def trigger(self, job, query, body):
        if job not in OUTCOMES:
            return self.failed(404)
        body = json.loads(body)
        cause = {"cut": lambda cause: cause[:60], "lower": str.lower}.get(self.service.get("cause"), str)(body.pop("cause"))
        assert 0 < len(cause.encode()) <= 255 and not re.search(r"""['"\\]|--|/\*|\*/""", cause), cause
        run = self.create(job, cause, self.now, body=body)
        for _ in range(self.service.get("repeats", 0)):
            self.create(job, cause, self.now, body=body)
        answers = self.service.get("answers") if self.posts == 1 else None
        if answers == "other-job":
            run = self.create(222226, "by hand", self.now - 9 * 24 * 3_600_000, outcome=SUCCESS)
            self.strange.append(run["id"])
        if answers == "old-run":
            run = next(other for other in self.runs if other["job"] == job and other["id"] != run["id"])
        return self.envelope(self.view(run, [] if answers == "no-trigger" else ["trigger"]))

    def list_runs(self, query, body):
        limit, offset = int(query.get("limit", 100)), int(query.get("offset", 0))
        shown = [run for run in reversed(self.runs) if self.now - run["at"] >= self.lag]
        shown = [run for run in shown if run["job"] == int(query.get("job_definition_id", run["job"]))]
        shown = [run for run in shown if self.falling or run["id"] > int(query.get("id__gt", 0))]
        if self.falling or query.get("order_by") is None:
            shown.reverse()
        include = json.loads(query.get("include_related", "[]"))
        page = [self.view(run, [] if self.null_triggers else include) for run in shown[offset : offset + limit]]
        pagination = {"count": len(page), "total_count": len(shown)}
        if self.service.get("total_count") == "page":
            pagination["total_count"] = len(page)
        if self.service.get("total_count") == "none":
            del pagination["total_count"]
        return self.envelope(page, extra={"pagination": pagination})

    def reported_id(self, number):
        return 900_000 - number if self.falling and number is not None else number

    def find(self, number):
        number = self.reported_id(number)
        return next((run for run in self.runs if run["id"] == number), None)

    def get_run(self, number, query, body):
        run = self.find(number)
        if run is None or self.now - run["at"] < self.fresh_404:
            return self.failed(404)
        return self.envelope(self.view(run, json.loads(query.get("include_related", "[]"))))

    def cancel(self, number, query, body):
        run = self.find(number)
        if run is None or self.status(run) >= 10:
            return self.failed(400)
        run["cancelled"] = self.now
        self.cancels.append(number)
        return self.envelope(self.view(run))

    def retry(self, number, query, body):
        run = self.find(number)
        if run is None or not self.view(run)["can_retry"]:
            return self.failed(400, said="RETRY_NOT_LATEST_RUN")
        new = self.create(run["job"], "Retried", self.now, "rerun", resumes=number)
        return self.envelope(self.view(new, ["trigger"]))

    def artifacts(self, number, query, body):
        there = self.ending is None or (self.uploaded(self.find(number)) and self.ending["files"])
        return self.envelope(["manifest.json", "run_results.json"] if there else ["manifest.json"])

    def artifact(self, number, query, body):
        if self.ending:
            nodes = self.ending["files"].get(query.get("step"))
            if nodes is None or not self.uploaded(self.find(number)):
                return self.failed(404)
            results = [{"unique_id": node, "status": "error", "message": "Database Error"} for node in nodes]
            return self.raw(200, json.dumps({"results": results, "compiled_code": self.padding}).encode())
        results = [
            {"unique_id": "model.jaffle.orders", "status": "error", "message": "Database Error: no such\ncolumn"},
            {"unique_id": "test.jaffle.not_null_orders_id.a1b2", "status": "fail", "message": "Got 3 results"},
            {"unique_id": "model.jaffle.late", "status": "skipped", "message": None},
        ]
        return self.raw(200, json.dumps({"metadata": {}, "results": results}).encode())


class Driver:
    """A `notebook_runner.py` process that runs many cases."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "notebook_runner.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, dbt, **case):
        case.setdefault("source", render())
        case.setdefault("secret", TOKEN)
        case.setdefault("start_ms", START)
        self.send({"case": case})
        while True:
            line = self.process.stdout.readline()
            assert line, "notebook_runner.py has ended"
            message = json.loads(line)
            if "done" in message:
                dbt.now = message["done"].get("now", dbt.now)
                return message["done"]
            self.send(dbt.answer(message))

    def send(self, value):
        self.process.stdin.write(json.dumps(value).encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
