# Databricks notebook source
# Run a dbt job and wait for it
#
# Starts one dbt platform (dbt Cloud) job, follows its run, and fails if the run fails, so that a Databricks
# workflow can treat a dbt job like any other task. To try it: run all cells once, enter the job's ID (the
# number after /jobs/ in its URL) in the widget `job_id`, and run all cells again.
# In a workflow: add a notebook task with the parameter `job_id`.
#
# Written by `dbtrigger deploy-notebook`; it has no other dependencies. The next line lets a later deploy
# detect manual edits, which are not overwritten without --force.
# dbtrigger-notebook: version=0.0.0 sha256=0000000000000000000000000000000000000000000000000000000000000000
#
# Anyone who can edit this notebook, or the job that uses it, can use the dbt key that it reads: keep it in a
# folder with restricted write access.
#
# One key (one task of one workflow run) starts one dbt run. dbt has no idempotency key, but it keeps the text
# `cause` of every run. So each cause starts with `[dbtrigger:<key>]`, and whenever it is unclear whether a
# trigger arrived, the notebook looks for that marker among the job's runs first. It checks for a second run in
# the first minute and at the end of the run.

# COMMAND ----------

import base64
import email.utils
import enum
import hashlib
import io
import json
import os
import queue
import random
import re
import threading
import time
import urllib.parse
import uuid

import requests

# COMMAND ----------

# Fixed at deployment and never a parameter, so that whoever starts the job can neither send the key elsewhere
# nor run any command in dbt. `override_keys`: overrides that a caller can send (none if empty). `job_ids`: dbt
# jobs that can be started (any if empty).
SETTINGS = json.loads('@@DBTRIGGER_SETTINGS@@')

base_url = SETTINGS["dbt_host"]
account_id = SETTINGS["account_id"]
secret_scope = SETTINGS["secret_scope"]
secret_key = SETTINGS["secret_key"]

# COMMAND ----------

# Parameters. Widgets are always text; in a workflow, the task's parameters set them.
dbutils.widgets.text("job_id", "", "dbt job ID")
dbutils.widgets.text("dbtrigger_job_id", "", "dbt job ID (overrides job_id)")
dbutils.widgets.text("dbtrigger_overrides", "{}", "Overrides (JSON object)")
dbutils.widgets.text("dbtrigger_timeout_minutes", "1440", "Timeout (minutes)")
dbutils.widgets.text("dbtrigger_on_timeout", "leave", "On timeout: leave or cancel the run")
dbutils.widgets.text("dbtrigger_mode", "run", "Mode: run or check")
dbutils.widgets.text("dbtrigger_key", "", "Key (set by the workflow)")
dbutils.widgets.text("dbtrigger_attempt", "", "Attempt (set by the workflow)")
dbutils.widgets.text("dbtrigger_on_repair", "new", "On repair: new or resume")

# COMMAND ----------

# From dbt's API documentation.
class DbtJobRunStatus(enum.IntEnum):
    QUEUED = 1
    STARTING = 2
    RUNNING = 3
    SUCCESS = 10
    ERROR = 20
    CANCELLED = 30


CONNECT_TIMEOUT = 10  # seconds, for one address of the host
GET_TIMEOUT = 30  # seconds, for one whole request, body included
POST_TIMEOUT = 60  # triggering is slower; after that, the run is looked up
SETTLE = 60  # seconds that a run may take to appear in the list if its trigger got no response
PATIENCE = 15 * 60  # how long dbt may be unreachable before a run is started
MAX_POSTS = 5  # triggers without a response or a run; each is looked up for SETTLE seconds
MAX_BODY = 16 * 1024 * 1024
LONGEST_LOG = 16 * 1024  # bytes kept at both ends of each log
LONGEST_TEXT = 1024  # the same for compiled code and messages
MAX_WAIT = 15 * 60  # longest accepted Retry-After; dbt's own cool-down is 5 minutes
LOOK_BACK = 7 * 24 * 3600  # no earlier attempt of this task is older
PAGE = 100  # rows requested at once
LATE = 10 * 60  # how long after runs with a higher ID a run may appear in lists
SKEW = 60  # how far IDs and creation times may disagree in an ordered list

OVERRIDES = {
    "git_sha": str,
    "git_branch": str,
    "azure_pull_request_id": int,
    "github_pull_request_id": int,
    "gitlab_merge_request_id": int,
    "non_native_pull_request_id": int,
    "schema_override": str,
    "dbt_version_override": str,
    "threads_override": int,
    "target_name_override": str,
    "generate_docs_override": bool,
    "timeout_seconds_override": int,
    "steps_override": list,
}


class Stopped(Exception):
    """Why this notebook failed. `reason` is one word, for programs. The message ends with it, or with the more specific
    `verdict`: Databricks passes on only the message of a failed task."""

    def __init__(self, reason, message, verdict=None):
        super().__init__(f"{message}\ndbtrigger-reason: {verdict or reason}")
        self.reason = reason


class NotTriggered(Stopped):
    """No dbt run was started, or none that this notebook may follow."""


class OutcomeUnknown(Stopped):
    """A trigger was sent, and dbt could not be asked whether it arrived. Nothing was sent again."""


class DbtRunFailed(Stopped):
    """The dbt run ended in error."""


class DbtRunCancelled(Stopped):
    """The dbt run was canceled, by a person or by dbt's own time limit."""


class StoppedWaiting(Stopped):
    """The dbt run is still running, but this notebook no longer waits for it."""

# COMMAND ----------

# Text. Everything that is printed, returned, or raised goes through `clean`: no control characters, never the
# key (nor its usual encodings: Databricks redacts only the exact text), and server messages are shortened.
output = []
hidden = []


def hide(key):
    plain = key.encode()
    forms = {key, urllib.parse.quote(key, safe=""), urllib.parse.quote_plus(key), json.dumps(key)[1:-1]}
    forms |= {plain.hex(), plain.hex().upper()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):  # in the middle of a longer text, Base64 looks different at each of three offsets
            coded = encode(b"\0" * shift + plain).decode().rstrip("=")
            forms.add(coded[(0, 2, 3)[shift] : len(coded) - (1 if (shift + len(plain)) % 3 else 0)])
    hidden.extend(sorted(forms, key=len, reverse=True))


def clean(text, limit=200):
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(text))
    text = "".join(" " if c.isspace() else c if c.isprintable() else "" for c in text)
    text = re.sub(r" {2,}", " ", text).strip()
    for form in hidden:
        text = text.replace(form, "[REDACTED]")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def say(text):
    text = clean(text, 500)
    output.append(text)
    print(text)


def whole_number(value):
    """A number from a number or its text, else None. IDs have more than 32 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return int(value) if re.fullmatch(r"[0-9]{1,19}", str(value)) else None


def seconds_of(moment):
    """The Unix time of dbt's `2021-11-26 16:48:41.431645+00:00`, or None."""
    found = re.match(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)", moment if isinstance(moment, str) else "")
    if not found:
        return None
    try:
        return email.utils.mktime_tz(tuple(int(part) for part in found.groups()) + (0, 0, 0, 0))
    except (ValueError, OverflowError):
        return None

# COMMAND ----------

# Input. Errors are raised before anything is sent.
def widget(name):
    return dbutils.widgets.get(name).strip()


def choice(name, allowed):
    value = widget(name) or allowed[0]
    if value not in allowed:
        raise NotTriggered("input", f"The parameter {name} is {clean(value, 40)!r}; it must be {' or '.join(allowed)}.")
    return value


def read_job_id(required=True):
    name = "dbtrigger_job_id" if widget("dbtrigger_job_id") else "job_id"
    number = whole_number(widget(name))
    if not widget(name) and not required:
        return None
    if not number:
        raise NotTriggered(
            "input",
            f"The parameter {name} must be the ID of a dbt job, the number after /jobs/ in the URL of its page in dbt. "
            f"It is {clean(widget(name), 40)!r}.",
        )
    if SETTINGS["job_ids"] and number not in SETTINGS["job_ids"]:
        allowed = ", ".join(str(job) for job in SETTINGS["job_ids"])
        raise NotTriggered("input", f"This notebook is not allowed to start dbt job {number}. Allowed: {allowed}.")
    return number


def read_overrides():
    text = widget("dbtrigger_overrides") or "{}"
    try:
        overrides = json.loads(text)
    except (ValueError, RecursionError):
        overrides = None
    if not isinstance(overrides, dict):
        raise NotTriggered("input", "The parameter dbtrigger_overrides is not a JSON object.")
    overrides = {key: value for key, value in overrides.items() if value is not None}
    for key, value in overrides.items():
        if key not in OVERRIDES or key not in SETTINGS["override_keys"]:
            allowed = ", ".join(SETTINGS["override_keys"]) or "none"
            raise NotTriggered(
                "input", f"This notebook does not allow the override {clean(key, 40)!r}. Allowed: {allowed}."
            )
        kind = OVERRIDES[key]
        good = type(value) is kind and value not in ("", [])  # not isinstance: in Python, True is a number too
        if not good or (kind is list and not all(isinstance(step, str) and step for step in value)):
            kind = {str: "a string", int: "a whole number", bool: "true or false", list: "a list of strings"}[kind]
            raise NotTriggered("input", f"The override {key} must be {kind}, and not empty.")
    requested = [key for key in overrides if key.endswith("_request_id")]
    if len(requested) > 1:
        raise NotTriggered("input", f"A run is for one pull request, but the overrides have {' and '.join(requested)}.")
    if requested and not {"git_sha", "git_branch"} & set(overrides):
        raise NotTriggered("input", f"The override {requested[0]} requires git_sha or git_branch.")
    return overrides


def read_minutes():
    minutes = whole_number(widget("dbtrigger_timeout_minutes") or "1440")
    if not minutes or minutes > 43200:
        raise NotTriggered("input", "The parameter dbtrigger_timeout_minutes must be a whole number from 1 to 43200.")
    return minutes


def read_keys():
    """The key of this task run, then those of earlier repairs if a repair resumes their run; and the key to use.

    Every automatic retry of a task has the same key, a repair has the next one. A reference that Databricks did
    not fill in (`{{...}}`) means that no workflow runs this notebook: the key is then generated, and there is
    nothing to look for (an empty list)."""
    key = widget("dbtrigger_key")
    if not key or "{{" in key:
        return [], "notebook/" + uuid.uuid4().hex
    keys = [key]
    repair = re.fullmatch(r"(.+)/([0-9]{1,4})", key)
    if repair and on_repair == "resume":
        keys += [f"{repair.group(1)}/{number}" for number in range(int(repair.group(2)) - 1, -1, -1)]
    for position, text in enumerate(keys):
        plain = re.sub(r"[^a-z0-9._:/]+", "-", text.lower())
        if plain != text or len(text) > 190:  # unique by a digest, and short: the whole cause has 255 bytes
            keys[position] = plain[:150].rstrip("-") + "-" + hashlib.sha256(text.encode()).hexdigest()[:32]
    return keys, keys[0]


def cause(marker):
    """dbt copies this text into SQL comments: no quotes, backslashes, comment marks or control characters."""
    attempt = whole_number(widget("dbtrigger_attempt"))
    human = "Triggered by Databricks Workflows" + (f", attempt {attempt}" if attempt and attempt > 1 else "")
    return marker + " " + human[: 254 - len(marker)]  # first, so that a truncated cause has it too


def check_origin(origin):
    """https, or http to a literal loopback address, such as the sandbox of dbtrigger."""
    https = re.fullmatch(r"https://([A-Za-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", origin)
    loopback = re.fullmatch(r"https?://(127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(:[0-9]{1,5})?", origin)
    if not https and not loopback:
        raise NotTriggered("input", f"The dbt host in SETTINGS is not an HTTPS URL without a path: {clean(origin)!r}.")
    if not re.fullmatch(r"[0-9]+", account_id):
        raise NotTriggered("input", f"The account ID in SETTINGS is not a number: {clean(account_id)!r}.")
    return bool(loopback)


def read_key():
    """The dbt key. Read again when dbt rejects it: it may have been rotated meanwhile."""
    try:
        key = dbutils.secrets.get(scope=secret_scope, key=secret_key).strip()
    except Exception as error:
        raise NotTriggered(
            "secret",
            f"The secret {secret_key!r} in scope {secret_scope!r} cannot be read: {clean(error).rstrip('.')}. "
            "Check that it exists and that the run-as identity has READ on the scope.",
        ) from None
    if not re.fullmatch(r"[!-~]{8,}", key):
        wrong = "contains characters that no dbt key has" if len(key) >= 8 else "is shorter than any dbt key"
        wrong = wrong if key else "is empty"
        text = f"The secret {secret_key!r} in scope {secret_scope!r} {wrong}."
        raise NotTriggered("secret", text, "key-malformed")
    hide(key)
    return key


is_loopback = check_origin(base_url)
api_key = None  # read once all other input is valid

# COMMAND ----------

# One request. Each has its own connection (a reused one may be dead, and libraries then silently resend),
# follows no redirect, and is bounded in time and size.
class Body(io.BytesIO):
    """The body of a trigger, which records whether it was read. If not, dbt cannot have acted on the request. Once
    given up, it can no longer be read, so that a late connection triggers nothing."""

    def __init__(self, value):
        super().__init__(json.dumps(value).encode())
        self.lock, self.taken, self.given_up = threading.Lock(), False, False

    def read(self, size=-1):
        with self.lock:
            if self.given_up:
                raise TimeoutError("given up")
            self.taken = True
        return super().read(size)

    def give_up(self):
        with self.lock:
            self.given_up = True
            return self.taken


class Answer:
    """A response. `kind`: `ok` (data is usable), `limited` (429), `refused` (another 4xx: dbt did nothing),
    `unsent` (dbt cannot have seen the request), `open` (anything may have happened)."""

    def __init__(self, kind, why, code=None, data=None, extra=None, wait=None, now=None, trouble=None):
        self.kind, self.why, self.code, self.data, self.extra = kind, why, code, data, extra
        self.wait, self.now, self.trouble = wait, now, trouble


class TooMuch(Exception):
    """The response was too long, or took too long."""


class Intake:
    """Collects a response. With `longest`, it keeps only both ends of long strings in JSON, so that long logs do not
    crowd out the rest. Strings are cut only before plain ASCII, so that no character or escape is split."""

    def __init__(self, longest=None):
        self.kept, self.longest = bytearray(), longest
        self.inside, self.escape = False, 0  # escape: bytes left after a backslash, -1 if not known yet

    def take(self, chunk):
        if not self.longest:
            self.kept += chunk
            return
        at = 0
        while at < len(chunk):
            if self.escape:
                byte = chunk[at : at + 1]
                self.escape = (4 if byte == b"u" else 0) if self.escape < 0 else self.escape - 1
                self.kept += byte
                at += 1
            elif not self.inside:
                end = chunk.find(b'"', at) + 1
                self.kept += chunk[at : end or len(chunk)]
                at, self.inside = end or len(chunk), end > 0
                self.begin, self.cut_from, self.newest = len(self.kept), None, None
            else:
                found = re.compile(rb'["\\]').search(chunk, at)
                end = found.start() if found else len(chunk)
                plain = re.compile(rb"[ -~]").search(chunk, at, end)
                if plain:
                    self.kept += chunk[at : plain.start()]
                    self.shorten()
                    at = plain.start()
                self.kept += chunk[at : end + 1]
                if found:
                    self.inside, self.escape = found.group() != b'"', -1 if found.group() == b"\\" else 0
                at = end + 1

    def shorten(self):
        here = len(self.kept)
        if self.cut_from is None:
            if here - self.begin >= self.longest:
                self.cut_from = self.newest = here
        elif here - self.newest >= self.longest:
            if self.newest > self.cut_from:
                del self.kept[self.cut_from : self.newest]
            self.newest = len(self.kept)


def sign(request):
    request.headers["Authorization"] = "Token " + api_key
    return request


def exchange(method, url, query, body, total, accept, longest):
    began = time.perf_counter()
    with requests.Session() as session:
        session.trust_env = not is_loopback  # proxy and certificates of this compute; no proxy for loopback
        if is_loopback:
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        headers = {
            "Accept": accept,
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "dbtrigger-notebook",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        # `auth` as a function: a .netrc on the cluster must not replace the header.
        response = session.request(
            method,
            url,
            params=query,
            data=body,
            headers=headers,
            auth=sign,
            stream=True,
            allow_redirects=False,
            timeout=(min(CONNECT_TIMEOUT, total), total),
        )
        received = Intake(longest)
        for chunk in response.iter_content(1024):
            received.take(chunk)
            if len(received.kept) > MAX_BODY or time.perf_counter() - began > total:
                raise TooMuch("large" if len(received.kept) > MAX_BODY else "slow")
        return response.status_code, response.headers, bytes(received.kept)


def send(method, path, query=None, body=None, total=GET_TIMEOUT, envelope=True, longest=None):
    """Sends one request and returns what can be concluded. Raises only if the notebook is interrupted."""
    url = f"{base_url}/api/v2/accounts/{account_id}/{path}"
    body = None if body is None else Body(body)
    total = max(1, total)
    results = queue.Queue()

    def work():
        try:
            accept = "application/json" if envelope else "*/*"
            results.put((exchange(method, url, query, body, total, accept, longest), None))
        except BaseException as error:
            results.put((None, error))

    # In a thread: name resolution, slow headers and the like have no total time limit.
    taken = True
    try:
        threading.Thread(target=work, daemon=True).start()
        reply, error = results.get(timeout=total + 1)
    except queue.Empty:
        reply, error = None, TooMuch()
    except RuntimeError as failure:  # no thread available
        reply, error = None, failure
    finally:
        if body is not None:
            taken = body.give_up()
    if error is None:
        return judge(*reply, envelope=envelope)
    trouble, why = explain(error, total)
    return Answer("open" if taken else "unsent", why, trouble=trouble)


def explain(error, total):
    """In our own words: the library's may quote headers, proxy URLs and the like."""
    host = base_url.split("//", 1)[1]
    text, kinds = repr(error).lower(), requests.exceptions
    if isinstance(error, kinds.SSLError):
        if "certificate" in text:
            return "certificate", f"The certificate of {host} is not trusted or not valid"
        return "tls", f"The TLS connection to {host} failed"
    if isinstance(error, kinds.ProxyError):
        return "proxy", f"The proxy of this compute did not connect to {host}"
    if isinstance(error, kinds.ConnectTimeout):
        return "blocked", f"{host} could not be reached within {CONNECT_TIMEOUT} seconds"
    names = ("nameresolution", "name or service not known", "name resolution", "getaddrinfo", "nodename nor servname")
    if any(name in text for name in names):
        return "name", f"Cannot resolve {host}"
    if "connection refused" in text:
        return "refused", f"{host} refused the connection"
    if "unreachable" in text or "no route" in text:
        return "blocked", f"{host} is not reachable from this compute"
    if isinstance(error, TooMuch) and error.args == ("large",):
        return "large", f"The response from {host} is larger than {MAX_BODY >> 20} MB"
    if isinstance(error, (kinds.Timeout, TooMuch, TimeoutError)):
        return "slow", f"No complete response from {host} within {total:.0f} seconds and {MAX_BODY >> 20} MB"
    return "cut", f"The connection to {host} broke ({clean(type(error).__name__, 40)})"


def judge(code, headers, received, envelope=True):
    now = http_date(headers.get("Date"))
    page = received.lstrip()[:1] == b"<" or "text/html" in str(headers.get("Content-Type", "")).lower()
    value = None
    if not page:
        try:
            value = json.loads(
                received.decode("utf-8-sig"), parse_int=lambda text: int(text) if len(text) < 20 else None
            )
        except (ValueError, RecursionError):
            value = None
    said = f"HTTP {code}" + (" with a web page instead of data" if page else "") + described(value)
    if code == 429:
        return Answer("limited", said, code, wait=retry_after(headers, now), now=now, trouble="limited")
    if 400 <= code < 500 and code != 408:
        return Answer("refused", said, code, now=now, trouble="rejected")
    if 300 <= code < 400:
        said += f", a redirect to {clean(redirect_host(headers), 80)}"
        return Answer("open", said, code, now=now, trouble="redirect")
    if not 200 <= code < 300:
        return Answer("open", said, code, wait=retry_after(headers, now), now=now, trouble="http")
    if not envelope and isinstance(value, dict):
        return Answer("ok", said, code, data=value, now=now)
    status = value.get("status") if isinstance(value, dict) else None
    if not isinstance(status, dict) or status.get("is_success") is False or value.get("data") is None:
        trouble = "page" if page else "unexpected-response"
        return Answer("open", said + ", and no usable data", code, now=now, trouble=trouble)
    return Answer("ok", said, code, data=value["data"], extra=value.get("extra"), now=now)


def redirect_host(headers):
    try:
        return urllib.parse.urlsplit(str(headers.get("Location", ""))).hostname or "another path"
    except ValueError:
        return "nowhere"


def described(value):
    """What dbt says about a request, shortened; the reason of a 400 is in `data`."""
    if not isinstance(value, dict):
        return ""
    status = value.get("status") if isinstance(value.get("status"), dict) else {}
    parts = [status.get("user_message") or status.get("developer_message") or value.get("detail")]
    if status.get("is_success") is False or status.get("code") == 400:
        parts.append(value.get("data"))
    texts = [part if isinstance(part, str) else json.dumps(part) for part in parts if part]
    return ": " + clean(" ".join(texts)).rstrip(".") if texts else ""


def http_date(text):
    parsed = email.utils.parsedate_tz(text) if isinstance(text, str) else None
    try:
        return email.utils.mktime_tz(parsed) if parsed else None
    except (ValueError, OverflowError):
        return None


def retry_after(headers, now):
    """Seconds, from either form of Retry-After; a date is compared with the server's own clock."""
    text = str(headers.get("Retry-After") or headers.get("x-rate-limit-retry-after-seconds") or "").strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return min(int(text), MAX_WAIT)
    moment = http_date(text)
    return None if moment is None else min(max(0, moment - (now or time.time())), MAX_WAIT)


def pause(answer, failures, until):
    """Waits before the next attempt: longer each time, with jitter, and as long as dbt asks, up to a limit."""
    if answer.kind == "limited":
        seconds = min(60 * 2 ** min(failures, 3), 300) if answer.wait is None else answer.wait
    else:
        seconds = max(answer.wait or 0, min(2 * 2 ** min(failures, 4), 30))
    time.sleep(max(0, min(seconds * random.uniform(1.0, 1.2), until - time.monotonic())))


def ask(path, query, until, shape=dict):
    """A GET before anything runs: repeated until the response is usable, or certain to stay unusable."""
    global api_key
    failures, proofs = 0, 0
    while True:
        answer = send("GET", path, query, total=min(GET_TIMEOUT, max(1, until - time.monotonic())))
        if answer.kind == "ok" and isinstance(answer.data, shape):
            return answer
        proofs = proofs + 1 if answer.code in (400, 401, 403, 404) or answer.trouble == "redirect" else 0
        if proofs >= 2 or answer.trouble == "certificate" or time.monotonic() >= until:
            text = f"Nothing was triggered. {answer.why}.{advice(answer)}"
            raise NotTriggered(reason_of(answer), text, verdict_of(answer))
        if answer.code in (401, 403):
            api_key = read_key()
        pause(answer, failures, until)
        failures += 1


def reason_of(answer):
    if answer.code in (401, 403):
        return "not-allowed"
    if answer.code == 404:
        return "not-found"
    if answer.kind == "refused":
        return "rejected"
    if answer.trouble in ("page", "unexpected-response", "redirect"):
        return "unexpected-response"
    return "unavailable" if answer.code else "network"


def verdict_of(answer):
    """A more specific reason, for check mode."""
    if answer.code == 403:
        return "address-refused" if "account_access_denied" in answer.why else "key-not-allowed"
    if answer.code in (401, 404):
        return {401: "key-refused", 404: "job-not-visible"}[answer.code]
    ways = {"name": "name", "refused": "egress", "blocked": "egress", "proxy": "proxy"}
    ways.update({"tls": "tls", "certificate": "tls"})
    return ways.get(answer.trouble) or reason_of(answer)


def advice(answer):
    """What to do about it."""
    host = base_url.split("//", 1)[1]
    if answer.code == 401:
        key = f"{secret_scope}/{secret_key}"
        return f" The key in {key} is not valid, has expired, or belongs to another host than {host}."
    if answer.code == 403 and "account_access_denied" in answer.why:
        return " dbt's IP restrictions block this compute: add its outgoing IP addresses to dbt's allow list."
    if answer.code == 403:
        return (
            f" The key does not belong to account {account_id} or lacks a permission there (running jobs takes the"
            " permission set Job Runner or higher), or dbt's IP restrictions block this compute."
        )
    if answer.code == 404:
        return " There is no such job or run in this account, or the key cannot see it."
    way = f" Check that this compute can reach {host} on port 443"
    return {
        "name": f" Check the spelling of {host}, and that this compute can resolve it (egress policy, private DNS).",
        "refused": way + " (firewall, egress policy).",
        "blocked": way + " (firewall, egress policy, serverless network policy).",
        "tls": way + ", and that nothing in between intercepts TLS.",
        "certificate": " Behind a TLS-inspecting proxy, set REQUESTS_CA_BUNDLE on this compute to its certificate.",
        "proxy": " Check HTTPS_PROXY and NO_PROXY on this compute.",
        "redirect": f" {host} is probably not the access URL of this account (Account settings in dbt).",
        "page": f" A proxy or sign-in page answered, or {host} is not the access URL of this account.",
    }.get(answer.trouble, "")

# COMMAND ----------

# dbt runs.
class Run:
    def __init__(self, data):
        self.data = data if isinstance(data, dict) else {}
        self.id = whole_number(self.data.get("id"))
        self.status = whole_number(self.data.get("status"))
        self.resumes = whole_number(self.data.get("retrying_run_id"))
        self.trigger = self.data.get("trigger") if isinstance(self.data.get("trigger"), dict) else None
        self.cause = str((self.trigger or {}).get("cause") or "").lower()
        self.created = seconds_of(self.data.get("created_at"))
        self.job = whole_number(self.data.get("job_definition_id"))

    def ended(self):
        """The final status, or None. The flags are used only if the number is unknown."""
        if self.status in (DbtJobRunStatus.SUCCESS, DbtJobRunStatus.ERROR, DbtJobRunStatus.CANCELLED):
            return DbtJobRunStatus(self.status)
        if self.status in (DbtJobRunStatus.QUEUED, DbtJobRunStatus.STARTING, DbtJobRunStatus.RUNNING):
            return None
        flags = (("is_success", 10), ("is_error", 20), ("is_cancelled", 30))
        complete = self.data.get("is_complete") is True
        return next((DbtJobRunStatus(code) for flag, code in flags if complete and self.data.get(flag) is True), None)

    def status_text(self):
        known = self.status in set(DbtJobRunStatus)
        return f"DbtJobRunStatus.{DbtJobRunStatus(self.status).name}" if known else f"DbtJobRunStatus({self.status})"

    def url(self):
        href, project = self.data.get("href"), whole_number(self.data.get("project_id"))
        if isinstance(href, str) and re.match(re.escape(base_url) + r"/|https://[a-z0-9.-]+\.(get)?dbt\.com/", href):
            return clean(href, 400)  # any other link is not dbt's
        middle = f"projects/{project}/" if project else ""
        return f"{base_url}/deploy/{account_id}/{middle}runs/{self.id}/"

    def text(self, field):
        value = self.data.get(field)
        return clean(value) if isinstance(value, str) and value else None

    def is_old(self, since):
        """Not newer than `since`, an ID and a time: by both, where both are known."""
        number, moment = since
        return self.id <= number and (self.created is None or moment is None or self.created <= moment)

    def has_marker(self, marker):
        """A resumed run is never a second one, whatever its cause says."""
        return marker in self.cause and self.resumes is None


def marker_of(key, round_number):
    """A new trigger after a failure that cannot be resumed is a new round, with its own marker."""
    return f"[dbtrigger:{key}]" if round_number == 1 else f"[dbtrigger:{key}:{round_number}]"


def round_of(run, key):
    found = re.search(r"\[dbtrigger:" + re.escape(key) + r"(?::([0-9]{1,4}))?\]", run.cause)
    return int(found.group(1) or 1) if found and run.resumes is None else None


WITH_TRIGGER = {"include_related": '["trigger"]'}
NEWEST_FIRST = {"order_by": "-id", **WITH_TRIGGER}


def list_runs(since=None):
    """The job's runs newer than `since`, or of the last 7 days, lowest ID first; None if no complete list could be
    read. Whether a list is complete is judged by its rows, not by the query: their order by ID and by time, an end
    that was reached, as many rows as dbt counts. A run without its trigger is read on its own, and if that fails, so
    does the look-up. `answer.since` bounds later look-ups."""
    runs, rows, offset, singles, ordered, above, total = {}, {}, 0, 0, True, None, None
    failed = lambda why: (None, Answer("open", why, trouble="unexpected-response"))
    while True:
        answer = send("GET", "runs/", {**NEWEST_FIRST, "job_definition_id": job_id, "limit": PAGE, "offset": offset})
        if answer.kind != "ok":
            return None, answer
        if not isinstance(answer.data, list):
            return failed("The list of runs is not a list")
        horizon, known, reached = (answer.now or time.time()) - LOOK_BACK, len(rows), False
        for row in answer.data:
            run = Run(row)
            if run.id is None:
                return failed("The list of runs has a row without an ID")
            if run.id in rows:
                continue  # rows shift between pages while runs are created
            if above is not None:
                later = None not in (run.created, above.created) and run.created > above.created + SKEW
                ordered = ordered and run.id < above.id and not later
            rows[run.id] = above = run
            if run.job not in (None, job_id):
                continue
            if run.is_old(since) if since else (run.created or horizon) < horizon:
                reached = True
                continue
            if run.trigger is None and singles < 10:
                singles += 1
                single = Run(send("GET", f"runs/{run.id}/", WITH_TRIGGER).data)
                run = single if single.id == run.id else run
            if run.trigger is None:
                return failed("The list of runs does not include what triggered them")
            runs[run.id] = run
        answer.since = since_of(rows.values(), horizon)
        if reached and ordered and len(answer.data) > 1:
            break
        offset += len(answer.data)
        pagination = answer.extra.get("pagination") if isinstance(answer.extra, dict) else None
        told = whole_number(pagination.get("total_count")) if isinstance(pagination, dict) else None
        total = max(total or 0, told or 0) if (total, told) != (None, None) else None  # a page may count itself
        if not answer.data or (len(answer.data) < PAGE and total is not None and offset >= total):
            if total is not None and len(rows) < total:
                return failed(f"The list of runs has {len(rows)} rows of {total}")
            break
        if len(rows) == known:
            return failed("The list of runs repeats itself")
        if offset >= (50_000 if ordered else 5_000):
            return failed("The job has too many runs to search")
    return sorted(runs.values(), key=lambda run: run.id), answer


def since_of(rows, horizon):
    """The ID and time that later runs are newer than. The last minutes are left out: a run that an earlier attempt has
    just triggered may not be listed yet, and may have a lower ID than runs that are."""
    dated = [run for run in rows if run.created is not None]
    settled = max([horizon] + [run.created - LATE for run in dated])
    dated = [run for run in dated if run.created < settled]
    return max([run.id for run in dated], default=0), max([run.created for run in dated], default=None)

# COMMAND ----------

# The trigger: look_up, post_once, settle. The same steps, by the same names, as in the dbtrigger command.
class State:
    """What is known so far, for the result and for an interruption."""

    def __init__(self):
        self.run = None  # the dbt run being followed
        self.marker = None  # the marker in its cause
        self.since = None  # ID and time that our runs are newer than
        self.keyed = False  # others may trigger with the same key
        self.strange = False  # a trigger returned a new run without the marker
        self.find = None  # picks the run of a POST from a list
        self.posts = 0
        self.last_post = None
        self.doubtful = False  # sent more than once, or no response: a second run is looked for while polling
        self.adopted = False
        self.duplicates = {}


def before_anything(until):
    """The ID and time that the run of a generated key is newer than."""
    rows = ask("runs/", {"job_definition_id": job_id, "order_by": "-id", "limit": 1}, until, list).data
    newest = Run(rows[0]) if rows else Run(None)
    return newest.id or 0, newest.created


def look_up(keys):
    """Step 2: looks for the run that an earlier attempt of this task triggered. Returns it, the run that last resumed
    it (or itself), its key and its round; all None if there is none. Repeats until it knows."""
    until, failures = min(deadline, time.monotonic() + PATIENCE), 0
    while True:
        runs, answer = list_runs()
        if runs is not None:
            break
        if time.monotonic() >= until or answer.trouble == "certificate":
            text = f"Nothing was triggered: earlier runs cannot be listed. {answer.why}.{advice(answer)}"
            raise NotTriggered(reason_of(answer), text, verdict_of(answer))
        pause(answer, failures, until)
        failures += 1
    state.since = answer.since  # from this list: a run that appears between two lists would be in neither
    for key in keys:
        rounds = {}
        for run in runs:
            if round_of(run, key):
                rounds.setdefault(round_of(run, key), []).append(run)
        if rounds:
            number = max(rounds)
            first = last = rounds[number][0]  # of two runs with one marker, the lower ID counts
            for run in runs:
                last = run if run.resumes == last.id else last
            state.marker, state.doubtful = marker_of(key, number), len(rounds[number]) > 1
            state.since = first.id - 1, first.created and first.created - 1
            return first, last, key, number
    return None, None, None, None


def differing(run, overrides):
    """The first override in which a run differs from the requested ones, or None."""
    for name in OVERRIDES:
        there, here = run.trigger.get(name), overrides.get(name)
        if there != here and (name in overrides or there):  # what was not requested is null or empty
            return name
    return None


def post_once(overrides):
    """Step 4: one POST on a new connection. No layer below sends it again."""
    state.posts += 1
    answer = send("POST", f"jobs/{job_id}/run/", body={"cause": cause(state.marker), **overrides}, total=POST_TIMEOUT)
    state.last_post = time.monotonic()
    if answer.kind != "ok":
        return None, answer
    run = Run(answer.data)
    wrong = not_ours(run)
    if wrong:
        return None, Answer("open", f"{answer.why}, {wrong}", answer.code, trouble="unexpected-response")
    return run, answer


def not_ours(run):
    """Why the run that a trigger returned is not followed; None if it is ours."""
    if run.id is None:
        return "without a run ID"
    if run.job not in (None, job_id) or run.is_old(state.since):
        return f"with run {run.id}, which this trigger cannot have started"
    if run.trigger is None:
        answer = send("GET", f"runs/{run.id}/", WITH_TRIGGER)
        single = Run(answer.data)
        if answer.kind != "ok" or single.id != run.id:
            return f"with run {run.id}, which cannot be read"
        run.trigger, run.cause = single.trigger, single.cause
        if run.trigger is None:  # dbt does not say: nothing contradicts it
            run.cause = state.marker
    if not run.has_marker(state.marker):
        state.strange = True
        return f"with run {run.id}, which does not carry {state.marker}"
    return None


def settle(find, what, limited=None):
    """Step 5: the outcome of a POST is open. Looks for its run at growing intervals, for SETTLE seconds and then
    once more. Returns the run, or None if certainly none was started; raises if dbt cannot be asked. After a response
    that says that none was started (`limited`), the outcome is never unknown."""
    began, wait = state.last_post, 1.0
    if limited is not None:  # the look-up gets its own time after the wait
        began = max(began, time.monotonic() - SETTLE)
    until = min(began + PATIENCE, deadline)
    while True:
        looking = time.monotonic()
        runs, answer = list_runs(state.since)
        found = find(runs or [])
        if found is not None:
            return found
        over = runs is not None and looking - began >= SETTLE
        if over and not state.strange:
            return None
        if over or time.monotonic() >= until:
            if limited is not None:
                text = f"Nothing was triggered. {limited.why}.{advice(limited)}"
                raise NotTriggered(reason_of(limited), text, verdict_of(limited))
            raise OutcomeUnknown(
                "unknown",
                f"It is unknown whether dbt started a run. {what}, and looking for it among the runs of job "
                f"{job_id} gave no result within {time.monotonic() - began:.0f} seconds ({answer.why}). Nothing was "
                f"sent again. Before you start it again, look for the cause {state.marker} in the job's run history.",
            )
        wait = min(wait * 1.7, 15.0)
        asked = 60 if answer.kind == "limited" and answer.wait is None else answer.wait or 0
        seconds = max(wait * random.uniform(0.9, 1.1), asked)
        if answer.kind == "ok" and looking - began < SETTLE:
            seconds = min(seconds, began + SETTLE - time.monotonic() + 0.01)
        time.sleep(max(0.1, min(seconds, until - time.monotonic())))


def _trigger_job(overrides):
    """Steps 3 to 5: triggers the job and returns its run. At most one run does work, whatever is lost."""
    until, failures, unanswered = min(deadline, time.monotonic() + PATIENCE), 0, 0
    if state.since is None:
        state.since = before_anything(until)
    state.find = lambda runs: next((run for run in runs if run.has_marker(state.marker)), None)
    while True:
        run, answer = post_once(overrides)
        if run is not None:
            return run
        if answer.kind == "refused":
            text = f"dbt did not start job {job_id}. {answer.why}.{advice(answer)}"
            raise NotTriggered(reason_of(answer), text, verdict_of(answer))
        if answer.kind == "open":
            unanswered, state.doubtful = unanswered + 1, True
            run = settle(state.find, f"The trigger got no clear response ({answer.why})")
        elif answer.trouble == "certificate" or time.monotonic() >= until:
            text = f"Nothing was triggered. {answer.why}.{advice(answer)}"
            raise NotTriggered(reason_of(answer), text, verdict_of(answer))
        else:
            pause(answer, failures, until)
            failures += 1
            if answer.kind == "limited":  # dbt says that nothing was started; a run that appears anyway is ours
                state.doubtful = True
                run = settle(state.find, "The trigger was rate limited", answer)
        if run is not None:
            return run
        if unanswered >= MAX_POSTS or time.monotonic() >= deadline:
            text = f"dbt did not start job {job_id}, and no run appeared. {answer.why}.{advice(answer)}"
            raise NotTriggered(reason_of(answer), text, verdict_of(answer))


def resume(failed):
    """Lets dbt resume a failed run from the point of failure. Returns the new run, or None if dbt does not resume it.
    A resumed run has no cause of ours; it is identified by the run that it resumes."""
    now = ask(f"runs/{failed.id}/", None, min(deadline, time.monotonic() + PATIENCE)).data
    can_retry = now.get("can_retry") is True
    not_latest = now.get("retry_not_supported_reason") == "RETRY_NOT_LATEST_RUN"
    state.since, state.last_post, unanswered = (failed.id, failed.created), time.monotonic(), 0
    state.find = lambda runs: next((run for run in reversed(runs) if run.resumes == failed.id), None)
    while can_retry and unanswered < MAX_POSTS and time.monotonic() < deadline:
        state.posts += 1
        answer = send("POST", f"runs/{failed.id}/retry/", total=POST_TIMEOUT)
        state.last_post = time.monotonic()
        run = Run(answer.data) if answer.kind == "ok" else None
        if run is not None and run.id is not None and run.id != failed.id:
            return run
        if answer.kind == "limited":
            pause(answer, unanswered, deadline)
            run = settle(state.find, "Resuming was rate limited", answer)
        else:  # also if refused: an earlier POST that seemed lost may have resumed it
            run = settle(state.find, f"Resuming dbt run {failed.id} got no clear response ({answer.why})")
        if run is not None or answer.kind == "refused":
            return run
        unanswered += 1
    # There is a newer run: perhaps one that an earlier attempt resumed, and that is not listed yet.
    return settle(state.find, f"dbt run {failed.id} already has a successor") if not_latest else None

# COMMAND ----------

# Follow the run.
def interval(age):
    """Short at first, longer with the run's age: a fleet of notebooks shares 5,000 requests a minute."""
    seconds = 5 if age < 60 else 10 if age < 600 else 15 if age < 3600 else 30
    return seconds * random.uniform(0.85, 1.15)


def stop_duplicate(other):
    """Cancels it only if it came in through the API, as ours do, and has certainly not started to work."""
    if other.ended():
        return "ended"
    if (other.trigger or {}).get("cause_category") == "api" and other.status == DbtJobRunStatus.QUEUED:
        now = Run(send("GET", f"runs/{other.id}/").data)
        if now.id == other.id and now.status == DbtJobRunStatus.QUEUED:
            if send("POST", f"runs/{other.id}/cancel/").kind == "ok":
                return "cancelled"
    return "left"


def audit(run):
    """Step 6: looks for a second run with our marker. The lower ID is kept. Returns the run to follow, and whether the
    look-up was complete."""
    runs, _ = list_runs(state.since)
    if runs is None:
        return run, False
    ours = [other for other in runs if other.has_marker(state.marker)]
    if run.id not in [other.id for other in runs] and run.has_marker(state.marker):
        ours = sorted(ours + [run], key=lambda other: other.id)
    for other in ours[1:]:
        before = state.duplicates.get(other.id)
        if before not in ("cancelled", "ended"):
            fate = state.duplicates[other.id] = stop_duplicate(other)
            if fate != before:
                said = {
                    "cancelled": "canceled in the queue",
                    "ended": "already ended",
                    "left": "not canceled; check it",
                }
                say(f"WARNING: dbt started a second run for this trigger, besides {ours[0].id}:")
                say(f"  {other.id} ({said[fate]}; {other.status_text()}) {other.url()}")
    if len(ours) > 1 and run.resumes is None and ours[0].id != run.id and run.has_marker(state.marker):
        say(f"Following dbt run {ours[0].id}, the first of them.")
        return ours[0], True
    return run, True


def follow(run):
    """Polls until the run has ended. A failed poll is not a failed run: only proof ends the wait early."""
    global api_key
    began, shown, denied, gone, failures = time.monotonic(), None, 0, 0, 0
    next_audit, ended_already = began + (0 if state.doubtful else 15), run.ended() is not None
    known(run)
    while True:
        if time.monotonic() >= next_audit:
            kept, looked = audit(run)
            if kept.id != run.id:
                run, shown = kept, None
                known(run)
            age = time.monotonic() - began
            if state.doubtful or not looked:
                next_audit = time.monotonic() + (5 if age < 30 else 15 if age < 600 else 60)
            else:  # by then a second run of the same POST appears
                next_audit = began + SETTLE if age < SETTLE else float("inf")
        last_look = time.monotonic() >= deadline
        answer = _get_job_run_status(run.id, 5 if last_look else min(GET_TIMEOUT, deadline - time.monotonic()))
        age = time.monotonic() - began
        wait = interval(age)
        now = Run(answer.data) if answer.kind == "ok" else None
        if now is not None and now.id == run.id and now.status is not None:
            now.trigger, now.cause = now.trigger or run.trigger, now.cause or run.cause
            run = state.run = now
            denied = gone = failures = 0
            if now.status_text() != shown:
                shown = now.status_text()
                say(shown)
            if now.ended() is not None:
                break
        else:
            failures += 1
            denied = denied + 1 if answer.code in (401, 403) else 0
            gone = gone + 1 if answer.code == 404 and age > 60 else 0
            if denied >= 2 or gone >= 2 or answer.trouble == "certificate":
                text = f"Lost track of dbt run {run.id}; it may still be running. {answer.why}.{advice(answer)}"
                raise StoppedWaiting(reason_of(answer), f"{text} {run.url()}")
            if denied:
                api_key = read_key()
            if failures == 3:
                say(f"dbt does not respond at the moment ({answer.why}); still waiting.")
            asked = min(60 * failures, 300) if answer.kind == "limited" and answer.wait is None else answer.wait or 0
            wait = max(wait, asked)
        if last_look:
            out_of_time(run)
        time.sleep(max(0, min(wait, deadline - time.monotonic())))
    # A second run may appear only now. A run of ours that was canceled in the queue may have lost to another one.
    settled, over = [], time.monotonic()
    if state.doubtful and state.last_post is not None:
        settled.append(state.last_post + SETTLE)
    if state.keyed and not ended_already and run.ended() == DbtJobRunStatus.CANCELLED and not run.text("started_at"):
        settled.append(over + SETTLE)
    until = min(max(settled, default=over), max(deadline, over))
    for failures in range(10_000):
        kept, looked = audit(run)
        if kept.id != run.id:
            return follow(kept)
        if time.monotonic() >= until and (looked or failures >= 2 or time.monotonic() >= deadline):
            break
        time.sleep(10 if time.monotonic() < until else 2)
    if not looked:
        say("Cannot check whether dbt made a second run for this trigger.")
    return run


def _get_job_run_status(job_run_id, total):
    return send("GET", f"runs/{job_run_id}/", total=total)


def known(run):
    state.run = run
    say(f"job_run_id = {run.id}")
    hand_on("dbt_run_id", run.id)
    hand_on("dbt_run_url", run.url())


def hand_on(name, value):
    """For later tasks: {{tasks.THIS_TASK.values.dbt_run_id}}. Outside a workflow there are none."""
    try:
        dbutils.jobs.taskValues.set(key=name, value=value)
    except Exception:
        pass


def cancel(run_id, seconds):
    """Cancels a run and waits until dbt says that it has ended. True if it certainly has."""
    until, asked = time.monotonic() + seconds, False
    while True:
        left = until - time.monotonic()
        if left <= 0:
            return False
        if not asked:
            asked = send("POST", f"runs/{run_id}/cancel/", total=min(10, left)).kind == "ok"
        answer = _get_job_run_status(run_id, min(10, max(1, until - time.monotonic())))
        now = Run(answer.data)
        if answer.kind == "ok" and now.id == run_id and now.ended() is not None:
            return True
        time.sleep(max(0, min(2, until - time.monotonic())))


def stopped(done):
    return "canceled" if done else "asked to stop, which dbt has not confirmed"


def out_of_time(run):
    hand_on("dbt_run_status", run.status_text().split(".")[-1])
    text = f"Timed out after {minutes} minutes; dbt run {run.id}"
    if on_timeout == "cancel":
        done = cancel(run.id, 60)
        raise StoppedWaiting("timeout", f"{text} was {stopped(done)}. {run.url()}")
    raise StoppedWaiting("timeout", f"{text} is still running ({run.status_text()}). {run.url()}")

# COMMAND ----------

# What failed, for the message. This never changes the outcome and must be fast.
FRESHNESS = ("dbt source freshness", "dbt source snapshot-freshness")
DOCS = "dbt docs generate"
BUILD = ("build", "run", "test", "seed", "snapshot", "retry")
HAVE_RESULTS = BUILD + ("compile", "docs", "run-operation", "clone")
RESULTS = "run_results.json"


def step_name(step):
    return str(step.get("name") or "").strip()


def command_of(step):
    """The dbt command of a step; empty for cloning and the profile."""
    told = step.get("run_step_command")
    told = told.get("dbt_command") if isinstance(told, dict) else None
    quoted = re.search(r"`(.*)`", step_name(step))
    command = str(told or (quoted.group(1) if quoted else "")).strip()
    return command if command.split(" ")[0] == "dbt" else ""


def verb_of(step):
    return next((word for word in command_of(step).split()[1:] if not word.startswith("-")), "")


def checkbox_steps(steps, data):
    """Steps of the job's checkboxes, which may fail without failing the run. A copy of their command among the job's
    own commands is not one of them. If the job is unknown, a step in the place of a checkbox's step counts as one,
    unless nothing else has failed. The command `dbtrigger run` has the same rule (dbt/steps.rs)."""
    job = data.get("job") if isinstance(data.get("job"), dict) else None
    trigger = data.get("trigger") if isinstance(data.get("trigger"), dict) else {}
    listed = trigger.get("steps_override") or (job or {}).get("execute_steps")
    listed = [str(command).strip() for command in listed] if isinstance(listed, list) else None
    ticked = {name: (job or {}).get(name) is not False for name in ("run_generate_sources", "generate_docs")}
    ticked["generate_docs"] |= trigger.get("generate_docs_override") is True
    names = [step_name(step).lower() for step in steps]
    commands = [command_of(step) for step in steps]
    freshness = [n for n in range(len(steps)) if names[n] == "source freshness" or commands[n] in FRESHNESS]

    def own(n):  # dbt deps comes before the first command, listed or not
        if listed is None:
            return verb_of(steps[n]) in BUILD
        return commands[n] != "dbt deps" and commands[n] in listed

    found = set()
    for n in freshness[:1]:
        first = not any(own(before) for before in range(n) if before not in freshness)
        if names[n] == "source freshness" or (ticked["run_generate_sources"] and first):
            found.add(n)
    left = (listed or []).count(DOCS)
    for n in range(len(steps)):
        if names[n] == "generate docs":
            found.add(n)
        elif commands[n] == DOCS and left:
            left -= 1
        elif commands[n] == DOCS and ticked["generate_docs"] and not any(own(m) for m in range(n + 1, len(steps))):
            found.add(n)
    if job is None:
        failed = {n for n in range(len(steps)) if whole_number(steps[n].get("status")) == DbtJobRunStatus.ERROR}
        found = {n for n in found if failed - {n} or names[n] in ("generate docs", "source freshness")}
    return found


def failed_step(data):
    """The step that failed the run: the last failed command, else the step that was running when the run broke off."""
    steps = [step for step in data.get("run_steps") or [] if isinstance(step, dict) and whole_number(step.get("index"))]
    steps.sort(key=lambda step: whole_number(step["index"]))
    checkboxes = checkbox_steps(steps, data)
    own = [step for n, step in enumerate(steps) if n not in checkboxes]
    failed = [step for step in own if whole_number(step.get("status")) == DbtJobRunStatus.ERROR]
    running = [step for step in steps if whole_number(step.get("status")) == DbtJobRunStatus.RUNNING]
    return (failed or running or [None])[-1]


def read_steps(run, until):
    """The run with its steps and all their logs."""
    query = {"include_related": '["run_steps","job","trigger"]'}
    while True:
        answer = send("GET", f"runs/{run.id}/", query, total=30, longest=LONGEST_LOG)
        if answer.kind == "ok" and isinstance(answer.data, dict) and isinstance(answer.data.get("run_steps"), list):
            return answer.data
        if answer.trouble == "large" or time.monotonic() >= until:
            return {}
        pause(answer, 0, until)


def failed_nodes(run, step):
    """Models, tests and the like that failed in this step. dbt uploads the file some seconds after the end; 404 means
    both "not yet" and "never", until dbt says that all files are saved."""
    until, index, saved, tries = time.monotonic() + 30, whole_number(step["index"]), False, 3
    while True:
        answer = send(
            "GET", f"runs/{run.id}/artifacts/{RESULTS}", {"step": index}, total=20, envelope=False, longest=LONGEST_TEXT
        )
        if answer.kind == "ok" or answer.trouble == "large" or (answer.kind == "refused" and answer.code != 404):
            break
        if saved:
            listed = send("GET", f"runs/{run.id}/artifacts/", total=10)
            tries -= 1
            if tries <= 0 or (isinstance(listed.data, list) and RESULTS not in listed.data):
                break
        if time.monotonic() >= until:
            break
        pause(answer, 0, until)
        now = _get_job_run_status(run.id, 10).data
        saved = saved or (isinstance(now, dict) and now.get("artifacts_saved") is True)
    results = answer.data.get("results") if answer.kind == "ok" else None
    nodes = []
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict) and result.get("status") in ("error", "fail", "runtime error", "partial success"):
            name = clean(result.get("unique_id") or "?", 150).split(".")
            message = f": {clean(result['message'])}" if isinstance(result.get("message"), str) else ""
            nodes.append(f"{name[0]} {name[2] if len(name) > 2 else name[-1]} ({result['status']}){message}")
    return nodes


def last_lines(step):
    logs = [step.get("logs"), step.get("truncated_debug_logs")]
    log = next((log for log in logs if isinstance(log, str) and log), "")
    lines = (clean(line) for line in log.splitlines())
    return [line for line in lines if line][-15:]


def failure_report(run):
    lines = [clean(f"dbt run {run.id} of job {job_id} failed. {run.text('status_message') or ''}", 400)]
    try:
        until, index, nodes = time.monotonic() + 45, None, []
        for look in range(3):  # logs appear some seconds after the end
            time.sleep(2 if look else 0)
            step = failed_step(read_steps(run, until))
            if step is None:
                break
            if index is None:
                index = whole_number(step["index"])
                lines.append(f"Failed step {index}: {clean(step_name(step) or '?')}")
                nodes = failed_nodes(run, step) if verb_of(step) in HAVE_RESULTS else []
                lines += ["Failed: " + node for node in nodes[:20]]
                lines += [f"... and {len(nodes) - 20} more"] if len(nodes) > 20 else []
            log = last_lines(step) if whole_number(step["index"]) == index else []
            if nodes or log:
                lines += [] if nodes else ["Log: " + line for line in log]
                break
    except Exception as error:
        lines.append(f"(Cannot read what failed: {type(error).__name__}.)")
    return "\n".join(lines + [run.url()])

# COMMAND ----------

# Check mode and the run.
def check():
    """Reads the secret, connects to dbt and reads the job; triggers nothing."""
    say(f"Secret {secret_scope}/{secret_key}: read")
    path, query, shape = (f"jobs/{job_id}/", None, dict) if job_id else ("jobs/", {"limit": 1}, list)
    answer = ask(path, query, time.monotonic() + 60, shape)
    say(f"dbt {base_url}, account {account_id}: connected, key accepted")
    remarks = []
    if job_id:
        job = answer.data
        say(f"dbt job {job_id}: {clean(job.get('name') or '?')}")
        triggers = job.get("triggers") if isinstance(job.get("triggers"), dict) else {}
        if why_off(job):
            remarks.append(f"A triggered run would not start: {why_off(job)}.")
        if triggers.get("schedule") is True:
            remarks.append("The job also has a schedule in dbt.")
        if job.get("job_type") == "ci":
            remarks.append("This is a CI job.")
    for remark in remarks:
        say(remark)
    say("Nothing was triggered. Whether the key can start runs was not checked.")
    result = {"schema_version": 1, "mode": "check", "ok": True, "dbt_job_id": job_id and str(job_id)}
    return json.dumps({**result, "remarks": remarks, "output": output})


def why_off(job):
    """Why runs of this job do not start, however triggered; None if no reason is known."""
    if whole_number(job.get("state")) == 2:
        return "the job is deleted"
    if job.get("job_type") == "hybrid":
        return "it is a hybrid job that another orchestrator runs"
    if job.get("deactivated") is True:
        told, failures = job.get("deactivation_reason"), whole_number(job.get("run_failure_count"))
        why = clean(told) if isinstance(told, str) and told else f"{failures} runs in a row failed" if failures else ""
        return "dbt has deactivated it" + (f": {why.rstrip('.')}" if why else "")
    return None


def refuse_if_off():
    """A run of such a job would stay in the queue forever. A job that cannot be read is not refused."""
    job = send("GET", f"jobs/{job_id}/").data
    why = why_off(job) if isinstance(job, dict) else None
    if why:
        text = f"Nothing was triggered: dbt job {job_id} would not start: {why}. "
        text += "See the job's page in dbt; saving its settings reactivates a job that was deactivated after failures."
        raise NotTriggered("refused", text, "job-off")


def find_or_trigger():
    """The run of this task: found, resumed, or triggered."""
    keys, key = read_keys()
    state.keyed = bool(keys)
    round_number = 1
    first, last, found_key, found_round = look_up(keys) if keys else (None, None, None, None)
    if first is not None:
        ended, different, same_task = last.ended(), differing(first, overrides), found_key == key
        if same_task and different:
            raise NotTriggered(
                "refused",
                f"This task already triggered dbt run {first.id}, with a different {different}. "
                f"Nothing was triggered. {first.url()}",
            )
        stands = ended in (None, DbtJobRunStatus.SUCCESS) or (same_task and ended == DbtJobRunStatus.CANCELLED)
        if stands and not different:
            say(f"Found dbt run {last.id} of an earlier attempt of this task.")
            state.adopted = True
            return last
        if not different and ended == DbtJobRunStatus.ERROR:
            run = resume(last)
            if run is not None:
                say(f"Resuming dbt run {last.id}, which failed in an earlier attempt, from the point of failure.")
                return run
        round_number = found_round + 1 if same_task else 1
    refuse_if_off()
    state.marker, state.posts = marker_of(key, round_number), 0
    # An attempt that was killed right after its trigger may have a run that is not listed yet.
    state.doubtful = bool(keys) and whole_number(widget("dbtrigger_attempt")) != 1
    return _trigger_job(overrides)


def conclude(run):
    ended = run.ended()
    hand_on("dbt_run_status", ended.name)
    if ended == DbtJobRunStatus.ERROR:
        raise DbtRunFailed("error", failure_report(run))
    if ended == DbtJobRunStatus.CANCELLED:
        reason = run.text("status_message") or "No reason given."
        if state.adopted:
            reason += " It belongs to this task run, so nothing was triggered again: run the workflow again."
        raise DbtRunCancelled("cancelled", f"dbt run {run.id} of job {job_id} was canceled. {reason}\n{run.url()}")
    say(run.url())
    result = {
        "schema_version": 1,
        "dbt_job_id": str(job_id),  # IDs as text: they exceed what floats keep exactly
        "dbt_run_id": str(run.id),
        "status": ended.name,
        "url": run.url(),
        "started_at": run.text("started_at"),
        "finished_at": run.text("finished_at"),
        "adopted": state.adopted,
        "duplicates": [{"dbt_run_id": str(number), "fate": fate} for number, fate in sorted(state.duplicates.items())],
        "output": output,
    }
    return json.dumps(result)


def stop_run():
    """The notebook was interrupted, so the dbt run is of no use. Best effort, for some seconds."""
    run, until = state.run, time.monotonic() + 10
    while run is None and state.posts and time.monotonic() < until:
        run = state.find(list_runs(state.since)[0] or [])
        time.sleep(0 if run else 2)
    if run is not None and run.ended() is None:
        done = cancel(run.id, 15)
        say(f"Interrupted: dbt run {run.id} was {stopped(done)}. {run.url()}")


def run():
    if mode == "check":
        return check()
    try:
        return conclude(follow(find_or_trigger()))
    except Exception:
        raise
    except BaseException:
        stop_run()
        raise


mode = choice("dbtrigger_mode", ["run", "check"])
on_timeout = choice("dbtrigger_on_timeout", ["leave", "cancel"])
on_repair = choice("dbtrigger_on_repair", ["new", "resume"])
minutes = read_minutes()
job_id = read_job_id(required=mode == "run")
overrides = read_overrides()
api_key = read_key()
deadline = time.monotonic() + minutes * 60
state, output[:] = State(), []  # by hand, this cell may be run more than once
result = run()

# COMMAND ----------

# The result. It must be the last statement: it ends the notebook.
dbutils.notebook.exit(result)
