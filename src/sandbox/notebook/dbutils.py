# Runs one notebook in Databricks source format, cell by cell, for the sandbox.
#
# Started as `python -I -c <this text>`. The protocol is JSON lines: the first line on stdin is the notebook to run. After
# that, this process writes messages and questions to its original stdout, and reads the answers to questions from
# stdin. What the notebook prints is sent as messages; what its subprocesses print goes to stderr.
#
# The `dbutils` below is strict on purpose: it raises where Databricks raises, and anything it lacks is an
# AttributeError.

import builtins
import datetime as real_datetime
import io
import json
import linecache
import os
import queue
import signal
import sys
import threading
import time as real_time
import traceback
import types

SEPARATOR = "# COMMAND ----------"
HEADER = "# Databricks notebook source"
MAGIC = "# MAGIC"
EXIT_LIMIT = 5 * 1024 * 1024  # Databricks cuts longer results
TASK_VALUE_LIMIT = 48 * 1024


class Pipe:
    """The connection to the sandbox. An interrupt waits until the current line has been written."""

    def __init__(self):
        self.out = os.dup(1)
        self.source = os.fdopen(os.dup(0), "rb")
        # Subprocesses inherit these descriptors, so they cannot disturb the protocol.
        os.dup2(2, 1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self.lock = threading.Lock()
        self.answers = queue.SimpleQueue()
        self.number = 0
        self.busy = False
        self.interrupted = False

    def read_notebook(self):
        line = self.source.readline()
        if not line:
            os._exit(70)
        threading.Thread(target=self.listen, daemon=True).start()
        return json.loads(line)

    def listen(self):
        for line in self.source:
            self.answers.put(json.loads(line))
        os._exit(70)  # the sandbox has exited

    def on_interrupt(self, _signal, _frame):
        if self.busy:
            self.interrupted = True
        else:
            raise KeyboardInterrupt

    def tell(self, message):
        data = json.dumps(message).encode("ascii") + b"\n"
        main = threading.current_thread() is threading.main_thread()
        if main:
            self.busy = True
        try:
            with self.lock:
                while data:
                    data = data[os.write(self.out, data):]
        finally:
            if main:
                self.busy = False
        if main and self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def ask(self, **question):
        self.number += 1
        number = self.number
        self.tell({**question, "number": number})
        while True:
            answer = self.answers.get()
            # The answer to an interrupted question may still arrive.
            if answer["number"] == number:
                return answer


class Output(io.TextIOBase):
    """stdout and stderr of the notebook, in printing order."""

    encoding = "utf-8"

    def __init__(self, pipe):
        self.pipe = pipe

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        text.encode("utf-8")  # a lone surrogate fails here, as on a real stream
        if text:
            self.pipe.tell({"say": "print", "text": text})
        return len(text)


class Py4JJavaError(Exception):
    """An error of dbutils as on a cluster: the text has the Java class and message."""

    def __init__(self, call, java):
        super().__init__(call, java)
        self.text = "An error occurred while calling " + call + ".\n: " + java

    def __str__(self):
        return self.text


Py4JJavaError.__module__ = "py4j.protocol"


class NotebookExit(Exception):
    """Raised by `dbutils.notebook.exit`. As on Databricks, a broad `except Exception` around the call catches it and
    the notebook continues."""


def text_only(what, value):
    if not isinstance(value, str):
        raise TypeError(what + " must be a string, not " + type(value).__name__)
    return value


class Strict:
    """An object with only the given attributes."""

    def __init__(self, name, **offers):
        object.__setattr__(self, "_name", name)
        self.__dict__.update(offers)

    def __getattr__(self, name):
        offers = ", ".join(sorted(key for key in self.__dict__ if not key.startswith("_")))
        raise AttributeError(self._name + " has no `" + name + "` in the sandbox (it offers: " + offers + ")")

    def __setattr__(self, name, _value):
        raise AttributeError(self._name + "." + name + " cannot be set")


class Widgets:
    def __init__(self, parameters):
        # Each parameter is a widget from the start and overrides any default.
        self.parameters = parameters
        self.values = dict(parameters)
        self.removed = set()

    def text(self, name, defaultValue, label=None):
        text_only("the name of a widget", name)
        text_only("the default of widget " + name, defaultValue)
        if label is not None:
            text_only("the label of widget " + name, label)
        if name in self.removed:
            self.removed.discard(name)  # created again in the same cell: keeps its value
        elif name not in self.values:
            self.values[name] = self.parameters.get(name, defaultValue)

    def dropdown(self, name, defaultValue, choices, label=None):
        for choice in choices:
            text_only("a choice of widget " + text_only("the name of a widget", name), choice)
        if defaultValue not in choices:
            raise Py4JJavaError(
                "o0.dropdown",
                "com.databricks.dbutils_v1.InvalidInputWidgetDefinition: the default of " + name + " is not among its choices",
            )
        self.text(name, defaultValue, label)

    def get(self, name):
        text_only("the name of a widget", name)
        if name not in self.values or name in self.removed:
            raise Py4JJavaError(
                "o0.getArgument",
                "com.databricks.dbutils_v1.InputWidgetNotDefined: No input widget named " + name + " is defined",
            )
        return self.values[name]

    def get_all(self):
        return {name: value for name, value in self.values.items() if name not in self.removed}

    def remove(self, name):
        self.get(name)
        self.removed.add(name)

    def cell_ended(self):
        for name in self.removed:
            del self.values[name]
        self.removed.clear()


class SecretMetadata:
    def __init__(self, key):
        self.key = key

    def __repr__(self):
        return "SecretMetadata(key=" + repr(self.key) + ")"


def make_dbutils(pipe, widgets):
    def secret(call, **question):
        answer = pipe.ask(say=call, **question)
        if "error" in answer:
            java = {
                "missing": "java.lang.IllegalArgumentException: ",
                "forbidden": "com.databricks.common.client.DatabricksServiceHttpClientException: ",
            }[answer["kind"]]
            raise Py4JJavaError("o0.get", java + answer["error"])
        return answer["value"]

    def get_secret(scope, key):
        return secret("secret", scope=text_only("scope", scope), key=text_only("key", key))

    def list_secrets(scope):
        return [SecretMetadata(key) for key in secret("secrets", scope=text_only("scope", scope))]

    def leave(value):
        raise NotebookExit(text_only("the value of dbutils.notebook.exit", value))

    def set_value(key, value):
        text_only("the key of a task value", key)
        size = len(json.dumps(value).encode())
        if size > TASK_VALUE_LIMIT:
            raise ValueError("Task value " + key + " has " + str(size) + " bytes as JSON; at most 48 KiB are allowed")
        pipe.ask(say="set-value", key=key, value=value)

    def get_value(taskKey, key, default=None, debugValue=None):
        text_only("taskKey", taskKey)
        answer = pipe.ask(say="get-value", task=taskKey, key=text_only("the key of a task value", key))
        if "value" in answer:
            return answer["value"]
        if default is None:
            raise ValueError("No task value with key " + key + " found for task " + taskKey + ", and no default was given")
        return default

    return Strict(
        "dbutils",
        widgets=Strict(
            "dbutils.widgets", text=widgets.text, dropdown=widgets.dropdown,
            get=widgets.get, getAll=widgets.get_all, remove=widgets.remove,
        ),
        secrets=Strict(
            "dbutils.secrets", get=get_secret, list=list_secrets,
            getBytes=lambda scope, key: get_secret(scope, key).encode("utf-8"),
        ),
        notebook=Strict("dbutils.notebook", exit=leave),
        jobs=Strict("dbutils.jobs", taskValues=Strict("dbutils.jobs.taskValues", set=set_value, get=get_value)),
    )


def sandbox_clock(now, speed):
    """Returns `time` and `datetime` on the sandbox's clock, for notebook code only. Libraries keep the real modules, so
    socket timeouts stay real. So does `perf_counter`, which measures real time, such as that of a request."""
    wall, mono = real_time.time(), real_time.monotonic()

    def seconds():
        return now + (real_time.time() - wall) * speed

    def monotonic():
        return mono + (real_time.monotonic() - mono) * speed

    time = types.ModuleType("time")
    time.__dict__.update(vars(real_time))
    time.sleep = lambda secs: real_time.sleep(secs / speed)
    time.time, time.time_ns = seconds, lambda: int(seconds() * 1e9)
    time.monotonic, time.monotonic_ns = monotonic, lambda: int(monotonic() * 1e9)
    time.gmtime = lambda secs=None: real_time.gmtime(seconds() if secs is None else secs)
    time.localtime = lambda secs=None: real_time.localtime(seconds() if secs is None else secs)
    time.strftime = lambda form, t=None: real_time.strftime(form, time.localtime() if t is None else t)

    class OfReal(type):
        def __instancecheck__(cls, value):
            return isinstance(value, cls.__mro__[1])

    class datetime(real_datetime.datetime, metaclass=OfReal):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(seconds(), tz)

        @classmethod
        def utcnow(cls):
            return cls.fromtimestamp(seconds(), real_datetime.timezone.utc).replace(tzinfo=None)

        @classmethod
        def today(cls):
            return cls.fromtimestamp(seconds())

    class date(real_datetime.date, metaclass=OfReal):
        @classmethod
        def today(cls):
            return cls.fromtimestamp(seconds())

    dates = types.ModuleType("datetime")
    dates.__dict__.update(vars(real_datetime))
    for kind in (datetime, date):
        kind.__module__, kind.__qualname__ = "datetime", kind.__name__
        setattr(dates, kind.__name__, kind)
    return {"time": time, "datetime": dates}


def cells_of(source):
    """Returns the lines of each cell. Line 1 is the first with text, as in the editor."""
    cells = [[]]
    for number, line in enumerate(source.split("\n")):
        line = line.rstrip("\r")
        if line.rstrip() == SEPARATOR:
            cells.append([])
        elif (number > 0 or line.rstrip() != HEADER) and (cells[-1] or line.strip()):
            cells[-1].append(line)
    return cells


def python_of(lines, say):
    """Returns the Python source of a cell; None for one that does nothing in the sandbox."""
    magic = [line for line in lines if line.startswith(MAGIC)]
    if not magic:
        return "\n".join(lines) + "\n" if lines else None
    words = magic[0][len(MAGIC):].strip().split(None, 1)
    name = words[0] if words else ""
    if name.startswith("%md"):
        return None
    if name == "%pip":
        say("[sandbox] skipped, nothing is installed here: " + " ".join(words) + "\n")
        return None
    raise NotImplementedError("the sandbox runs Python cells only, not `" + (name or MAGIC) + "`")


def run(notebook, pipe):
    widgets = Widgets(notebook["parameters"])
    clocks = sandbox_clock(notebook["now"] / 1000, notebook["speed"])

    def notebook_import(name, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and name in clocks:
            return clocks[name]
        return builtins.__import__(name, globals, locals, fromlist, level)

    main = types.ModuleType("__main__")
    main.__builtins__ = {**vars(builtins), "__import__": notebook_import}
    main.dbutils = make_dbutils(pipe, widgets)
    sys.modules["__main__"] = main
    files = set()
    try:
        for index, lines in enumerate(cells_of(notebook["source"]), 1):
            text = python_of(lines, sys.stdout.write)
            if text is None:
                continue
            file = notebook["path"] + ", cell " + str(index)
            files.add(file)
            linecache.cache[file] = (len(text), None, text.splitlines(True), file)
            exec(compile(text, file, "exec", dont_inherit=True), main.__dict__)
            widgets.cell_ended()
    except NotebookExit as end:
        result = end.args[0].encode("utf-8", "backslashreplace")[:EXIT_LIMIT].decode("utf-8", "ignore")
        return {"say": "end", "outcome": "exited", "result": result}
    except BaseException as failure:
        frames = failure.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename not in files:
            frames = frames.tb_next
        error = "".join(traceback.format_exception_only(type(failure), failure)).strip()
        trace = "".join(traceback.format_exception(type(failure), failure, frames))
        return {"say": "end", "outcome": "failed", "error": printable(error), "trace": printable(trace)}
    return {"say": "end", "outcome": "finished"}


def printable(text):
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def start():
    pipe = Pipe()
    signal.signal(signal.SIGINT, pipe.on_interrupt)
    try:
        notebook = pipe.read_notebook()
        # Isolated mode hides the user's site folder, where `requests` may be.
        sys.path.extend(entry for entry in notebook["import_from"] if entry not in sys.path)
        sys.stdout = sys.stderr = Output(pipe)
        end = run(notebook, pipe)
    except KeyboardInterrupt:
        end = {"say": "end", "outcome": "failed", "error": "KeyboardInterrupt", "trace": "KeyboardInterrupt\n"}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.tell(end)
    # Also ends threads that the notebook left running.
    os._exit(0)


start()
