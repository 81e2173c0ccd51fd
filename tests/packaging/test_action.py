"""Runs the steps of action.yml as a GitHub runner does (bash, inputs as variables, GITHUB_* files) against the sandbox.

    DBTRIGGER=target/debug/dbtrigger WHEEL=target/wheels/... python3 -m unittest discover --start-directory tests/packaging
"""
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WHEEL = os.path.abspath(os.environ["WHEEL"])


def steps():
    """Yields name, script, condition and variables of each step. Parses only the YAML that action.yml uses."""
    text = pathlib.Path(ROOT, "action.yml").read_text().split("\nruns:\n")[1]
    for part in text.split("    - name: ")[1:]:
        name = part.splitlines()[0]
        script = re.search(r"^      run: (.*)$", part, re.M).group(1)
        variables = dict(re.findall(r"^        (\w+): \$\{\{ inputs\.([\w-]+) \}\}$", part, re.M))
        yield name, script, "if: inputs.command != ''" in part, variables


class Runner:
    """A job: a temporary folder, a PATH that steps can extend, and the sandbox's variables."""

    def __init__(self, test):
        self.folder = tempfile.TemporaryDirectory()
        test.addCleanup(self.folder.cleanup)
        self.path = os.environ["PATH"]
        self.sandbox = test.sandbox

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, **inputs):
        """Runs the steps and returns the process of the last one, still running."""
        given = {"command": "", "version": "0.1.0", "index-url": "", "wheel": "", **inputs}
        for name in ("output", "path", "summary"):
            pathlib.Path(self.file(name)).write_text("")
        for name, script, conditional, variables in steps():
            if conditional and not given["command"]:
                continue
            step = self.file("step.sh")
            pathlib.Path(step).write_text(script)
            env = {
                "PATH": self.path, "HOME": self.folder.name, "CI": "true", "GITHUB_ACTIONS": "true",
                "RUNNER_TEMP": self.file("temp"), "GITHUB_ACTION_PATH": ROOT, "GITHUB_OUTPUT": self.file("output"),
                "GITHUB_PATH": self.file("path"), "GITHUB_STEP_SUMMARY": self.file("summary"), **self.sandbox,
                **{variable: given[name] for variable, name in variables.items()},
            }
            process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", step], env=env, cwd=self.folder.name,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
            if script.startswith("exec"):
                return process
            out, _ = process.communicate(timeout=300)
            if process.returncode:
                return self.ended(process, out)
            self.path = os.pathsep.join([*pathlib.Path(self.file("path")).read_text().split(), self.path])
        return self.ended(process, out)

    @staticmethod
    def ended(process, out):
        process.out = out
        return process

    def run(self, **inputs):
        process = self.start(**inputs)
        if not hasattr(process, "out"):
            process.out, _ = process.communicate(timeout=300)
        return process

    def outputs(self):
        return dict(line.split("=", 1) for line in pathlib.Path(self.file("output")).read_text().splitlines() if "=" in line)


class Action(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.TemporaryDirectory()
        cls.process = subprocess.Popen(
            [os.path.abspath(os.environ["DBTRIGGER"]), "sandbox", "--speed", "60", "-o", "json"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={"PATH": os.environ["PATH"], "HOME": cls.home.name})
        cls.sandbox = json.loads(cls.process.stdout.readline())

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        cls.process.wait()
        cls.process.stdout.close()
        cls.home.cleanup()

    def test_how_a_run_ends_is_in_the_outputs_and_the_exit_code(self):
        for job, status, exit_code in (("222222", "SUCCESS", 0), ("222223", "ERROR", 3), ("222224", "CANCELLED", 20)):
            with self.subTest(status):
                runner = Runner(self)
                process = runner.run(wheel=WHEEL, command=f"run {job}")
                outputs = runner.outputs()
                self.assertEqual((process.returncode, outputs["status"]), (exit_code, status), process.out)
                self.assertEqual(outputs["exit_code"], str(exit_code))
                self.assertTrue(outputs["run_url"].endswith(f"/runs/{outputs['run_id']}/"), outputs)

    def test_several_jobs_are_a_list(self):
        runner = Runner(self)
        process = runner.run(wheel=WHEEL, command="run 222222 222223")
        self.assertEqual(process.returncode, 3, process.out)
        self.assertEqual([run["exit_code"] for run in json.loads(runner.outputs()["runs"])], [0, 3])

    def test_a_cancelled_job_reaches_the_program(self):
        runner = Runner(self)
        process = runner.start(wheel=WHEEL, command="run 222225 --on-interrupt cancel")
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "QUEUED" in line:
                break
        process.send_signal(signal.SIGINT)
        lines.append(process.communicate(timeout=120)[0])
        outputs = runner.outputs()
        self.assertEqual((process.returncode, outputs["status"]), (130, "CANCELLED"), "".join(lines))

    def test_quotes_count_and_nothing_is_expanded(self):
        runner = Runner(self)
        evil = "$(touch evil) `touch evil` ; touch evil"
        process = runner.run(wheel=WHEEL, command=f"run 222222 --no-wait --cause '{evil}' -o json")
        self.assertEqual(process.returncode, 0, process.out)
        self.assertFalse(os.path.exists(runner.file("evil")))
        broken = Runner(self).run(wheel=WHEEL, command="run 'it")
        self.assertEqual(broken.returncode, 2, broken.out)
        self.assertIn("::error", broken.out)

    def test_without_a_command_it_is_installed_for_later_steps(self):
        runner = Runner(self)
        process = runner.run(wheel=WHEEL)
        self.assertEqual(process.returncode, 0, process.out)
        self.assertTrue(any(os.path.exists(os.path.join(folder, "dbtrigger")) for folder in runner.path.split(":")[:1]))

    def test_only_one_version_can_be_named(self):
        for version in ("latest", "", ">=0.1", "0.1.0 --index-url https://elsewhere.invalid"):
            with self.subTest(version):
                process = Runner(self).run(version=version)
                self.assertEqual(process.returncode, 2, process.out)
                self.assertIn("::error", process.out)

    def test_a_version_comes_from_the_index_that_is_named(self):
        # Serves a folder with the wheel as a simple index on loopback.
        with tempfile.TemporaryDirectory() as folder:
            project = os.path.join(folder, "dbtrigger")
            os.mkdir(project)
            name = os.path.basename(WHEEL)
            shutil.copy(WHEEL, project)
            pathlib.Path(project, "index.html").write_text(f'<a href="{name}">{name}</a>')
            handler = functools.partial(Quiet, directory=folder)
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                version = name.split("-")[1]
                runner = Runner(self)
                process = runner.run(version=version, **{"index-url": f"http://127.0.0.1:{server.server_port}/"})
                server.shutdown()
            self.assertEqual(process.returncode, 0, process.out)
            self.assertIn(f"dbtrigger {version} (", process.out)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


if __name__ == "__main__":
    unittest.main()
