"""Installs the wheel and the Debian package as users do, on a PATH without cargo and a C compiler.

    WHEEL=target/wheels/... DEB=target/deb/... python3 -m unittest discover --start-directory tests/packaging

Needs pipx and uv on the PATH. The Debian package is installed on this system, so only if DEB is set.
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WHEEL = os.path.abspath(os.environ["WHEEL"])
VERSION = re.search(r'^version = "(.*)"', pathlib.Path(ROOT, "Cargo.toml").read_text(), re.M).group(1)


class Machine:
    """A separate home and PATH with Python and what pip needs, but no compiler and no Rust."""

    def __init__(self, test):
        self.folder = tempfile.TemporaryDirectory()
        test.addCleanup(self.folder.cleanup)
        self.bin = os.path.join(self.folder.name, "bin")
        os.mkdir(self.bin)
        for name in ("bash", "sh", "env", "uname", "ldd", "ldconfig", "which", "cat", "git"):
            if found := shutil.which(name):
                os.symlink(found, os.path.join(self.bin, name))
        os.symlink(sys.executable, os.path.join(self.bin, "python3"))
        self.env = {
            "PATH": self.bin, "HOME": self.folder.name, "LANG": "C.UTF-8", "DBTRIGGER_NO_KEYRING": "1",
            "UV_TOOL_DIR": self.file("uv"), "UV_TOOL_BIN_DIR": self.file("uv-bin"), "UV_CACHE_DIR": self.file("uv-cache"),
            "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never",
            "PIPX_HOME": self.file("pipx"), "PIPX_BIN_DIR": self.file("pipx-bin"),
            # This machine's index and certificates for pip and uv.
            **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_INDEX", "UV_DEFAULT", "SSL_"))},
        }
        for name in ("cargo", "rustc", "cc", "gcc"):
            assert not shutil.which(name, path=self.bin), name

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def run(self, *command, env=None, code=0):
        done = subprocess.run(command, env={**self.env, **(env or {})}, cwd=self.folder.name, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        assert done.returncode == code, f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}"
        return done.stdout


def venv(machine, package, *options):
    folder = machine.file("venv")
    machine.run(sys.executable, "-m", "venv", folder)
    machine.run(os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", *options, package)
    return os.path.join(folder, "bin", "dbtrigger")


class Wheel(unittest.TestCase):
    def test_it_holds_the_program_and_its_licenses_and_nothing_else(self):
        with zipfile.ZipFile(WHEEL) as wheel:
            names = {re.sub(r"^dbtrigger-[^/]+?\.(data|dist-info)", r"\1", name) for name in wheel.namelist()}
            metadata = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA"))
        self.assertEqual({name for name in names if not name.startswith("dist-info/sboms/")}, {
            "data/scripts/dbtrigger", "dist-info/METADATA", "dist-info/WHEEL", "dist-info/RECORD",
            "dist-info/licenses/LICENSE-APACHE", "dist-info/licenses/LICENSE-MIT"})
        for line in ("Name: dbtrigger", f"Version: {VERSION}", "Requires-Python: >=3.9",
                     "License-Expression: MIT OR Apache-2.0"):
            self.assertIn(line + "\n", metadata)

    def test_every_installer_puts_the_program_on_the_path(self):
        for name, install, program in (
            ("pip", None, None),
            ("pipx", [shutil.which("pipx"), "install", WHEEL], "pipx-bin/dbtrigger"),
            ("uv", [shutil.which("uv"), "tool", "install", "--offline", WHEEL], "uv-bin/dbtrigger"),
        ):
            with self.subTest(name):
                machine = Machine(self)
                if install:
                    machine.run(*install)
                    program = machine.file(program)
                else:
                    program = venv(machine, WHEEL, "--no-index")
                self.assertRegex(machine.run(program, "--version"), rf"^dbtrigger {re.escape(VERSION)} \(\w+, [\w-]+\)\n$")

    def test_uv_runs_it_without_installing(self):
        machine = Machine(self)
        out = machine.run(shutil.which("uv"), "tool", "run", "--offline", "--from", WHEEL, "dbtrigger", "--version")
        self.assertIn(f"dbtrigger {VERSION} (", out)

    def test_the_demo_runs_in_the_python_beside_the_program(self):
        machine = Machine(self)
        program = venv(machine, f"{WHEEL}[demo]")
        # Leaves only the Python of the virtual environment.
        os.remove(os.path.join(machine.bin, "python3"))
        document = json.loads(machine.run(program, "demo", "-o", "json", "--quiet"))
        self.assertTrue(document["ok"], document)
        self.assertFalse(os.path.exists(machine.file(".cache/dbtrigger")), "a private environment was made")

    def test_the_guide_can_be_walked_with_it(self):
        machine = Machine(self)
        program = venv(machine, f"{WHEEL}[demo]")
        guide = pathlib.Path(ROOT, "docs", "guide.md").read_text()
        lines = re.findall(r"^    dbtrigger (.*)$", guide, re.M)
        self.assertGreaterEqual(len(lines), 9)
        sandbox = subprocess.Popen([program, "sandbox", "--speed", "600", "-o", "json"], env=machine.env,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            variables = json.loads(sandbox.stdout.readline())
            add_workflow(variables, "Daily load")
            for line in lines:
                machine.run(program, *shlex.split(line), env={**variables, "CI": "true"})
        finally:
            sandbox.terminate()
            sandbox.wait()
            sandbox.stdout.close()


def add_workflow(variables, name):
    """Creates the existing workflow to which the guide adds a task."""
    body = {"name": name, "tasks": [{"task_key": "load", "notebook_task": {"notebook_path": "/Shared/load"}}]}
    request = urllib.request.Request(
        variables["DATABRICKS_HOST"] + "/api/2.2/jobs/create", data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + variables["DATABRICKS_TOKEN"], "Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).read()


@unittest.skipUnless(os.environ.get("DEB"), "DEB names no Debian package")
class DebianPackage(unittest.TestCase):
    def sh(self, script):
        done = subprocess.run(["bash", "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8",
                                   "MANWIDTH": "80", "DEBIAN_FRONTEND": "noninteractive"})
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}")
        return done.stdout

    def test_it_is_installed_run_completed_read_and_removed(self):
        deb = shlex.quote(os.path.abspath(os.environ["DEB"]))
        self.sh(f"lintian --fail-on error --tag-display-limit 0 {deb}")
        # Container images exclude manual pages and documentation.
        self.sh(f"dpkg --path-include='/usr/share/*' --install {deb}")
        try:
            self.assertIn(f"dbtrigger {VERSION} (", self.sh("dbtrigger --version"))
            # bash-completion loads completions by the name of the command.
            words = self.sh("""
                source /usr/share/bash-completion/bash_completion
                _completion_loader dbtrigger || true
                COMP_WORDS=(dbtrigger cre); COMP_CWORD=1
                function=$(complete -p dbtrigger | sed 's/.*-F \\([^ ]*\\).*/\\1/')
                $function dbtrigger cre dbtrigger; echo "${COMPREPLY[@]}" """)
            self.assertEqual(words.strip(), "create-workflow")
            page = self.sh("man --warnings dbtrigger-run 2>&1 | col -bx")
            self.assertRegex(page, r"(?m)^NAME\n\s+dbtrigger-run +- ")
            self.assertNotIn("warning", page.lower().split("name\n")[0])
        finally:
            self.sh("dpkg --remove dbtrigger")
        left = self.sh("ls -d /usr/bin/dbtrigger* /usr/share/man/man1/dbtrigger* /usr/share/doc/dbtrigger* 2>/dev/null || true")
        self.assertEqual(left, "")


if __name__ == "__main__":
    unittest.main()
