"""Tests the real notebook on virtual time: `python3 -m unittest discover tests/notebook`. Needs only Python."""

import base64
import collections
import glob
import json
import os
import re
import unittest

from fake_dbt import ACCOUNT, HOST, ROOT, START, SUCCESS, TOKEN, Driver, FakeDbt, render

KEY = "7405609032100112/1055/dbt_222222/0"
HOUR = 3_600_000


def marker(key=KEY):
    return f"[dbtrigger:{key}] Triggered by Databricks Workflows"


class Notebook(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.driver = Driver()

    @classmethod
    def tearDownClass(cls):
        cls.driver.close()

    def play(self, dbt, job=222222, key=KEY, settings=None, case=None, **widgets):
        given = {"job_id": str(job), "dbtrigger_key": key, **widgets}
        done = self.driver.run(dbt, widgets=given, source=render(**(settings or {})), **(case or {}))
        self.assertIsNone(done.get("violation"))
        text = json.dumps(done)
        for form in (TOKEN, base64.b64encode(TOKEN.encode()).decode(), TOKEN.encode().hex(), TOKEN[:-2], TOKEN[-8:]):
            self.assertNotIn(form, text)
            self.assertNotIn(json.dumps(form)[1:-1], text)
        if done["exception"] and not done["exception"]["reason"] and done["exception"]["class"] != "KeyboardInterrupt":
            self.fail(done["exception"]["trace"])
        return done

    def reason(self, done):
        return done["exception"] and done["exception"]["reason"]

    def protocol(self, case):
        key = KEY if case["key"] == "fixed" else ""
        dbt = FakeDbt(case["lag_ms"], case["fresh_404_ms"], case["faults"], service=case.get("service"))
        for run in case["earlier"]:
            carried = {"own": KEY, "other": "other/1", "longer": KEY + "0"}[run.get("key", "own")]
            made = dbt.create(case["job"], marker(carried), START - run["age_s"] * 1000, body=run.get("overrides"))
            if "resumes" in run:
                made["resumes"], made["category"] = dbt.runs[run["resumes"]]["id"], "rerun"
            if run["outcome"] == "cancelled":
                made["cancelled"] = made["at"] + 60_000
        allowed = {"override_keys": ["git_branch", "threads_override"]}
        asked = json.dumps(case.get("overrides", {}))
        done = self.play(dbt, case["job"], key, settings=allowed, dbtrigger_overrides=asked)
        dbt.now += 24 * HOUR
        made = [run for run in dbt.runs[len(case["earlier"]) :] if run["id"] not in dbt.strange]
        expect = {**case["expect"], **case.get("notebook", {})}
        verdict = self.reason(done) or json.loads(done["exit"])["status"].lower()
        got = {
            "posts": dbt.posts,
            "runs_made": len(made),
            "runs_worked": sum(dbt.worked(run) for run in made),
            "verdict": verdict,
        }
        if isinstance(expect["posts"], list):
            least, most = expect["posts"]
            self.assertTrue(least <= got.pop("posts") <= most, got)
        if "retries" in expect:
            got["retries"] = dbt.retries
        if done["exit"]:
            got["adopted"] = json.loads(done["exit"])["adopted"]
            got["duplicates"] = len(json.loads(done["exit"])["duplicates"])
            expect.setdefault("duplicates", 0)
        self.assertEqual(got, {name: expect[name] for name in got}, done)

    def test_protocol(self):
        paths = sorted(glob.glob(os.path.join(ROOT, "tests", "protocol", "*.json")))
        good = 0
        for path in paths:
            with open(path) as file:
                case = json.load(file)
            with self.subTest(case["name"]):
                self.protocol(case)
                good += 1
        print(f"\nprotocol cases, notebook: {good} of {len(paths)}")
        self.assertGreater(len(paths), 40)

    # Output.
    def test_the_output_is_the_guides_sample_with_one_line_per_change(self):
        done = self.play(FakeDbt())
        self.assertEqual(
            done["lines"],
            [
                "job_run_id = 123456",
                "DbtJobRunStatus.QUEUED",
                "DbtJobRunStatus.STARTING",
                "DbtJobRunStatus.RUNNING",
                "DbtJobRunStatus.SUCCESS",
                f"{HOST}/deploy/{ACCOUNT}/projects/4101/runs/123456/",
            ],
        )
        result = json.loads(done["exit"])
        self.assertEqual(result["output"], done["lines"])
        self.assertEqual((result["schema_version"], result["dbt_job_id"], result["dbt_run_id"]), (1, "222222", "123456"))
        self.assertEqual((result["status"], result["adopted"], result["duplicates"]), ("SUCCESS", False, []))
        self.assertEqual(done["task_values"]["dbt_run_id"], 123456)
        self.assertEqual(done["task_values"]["dbt_run_url"], result["url"])
        self.assertEqual(done["task_values"]["dbt_run_status"], "SUCCESS")

    def test_a_failure_names_step_models_and_link(self):
        done = self.play(FakeDbt(), 222223)
        message = done["exception"]["message"]
        self.assertEqual(done["exception"]["class"], "DbtRunFailed")
        for part in (
            "dbt run 123456",
            "Failed step 4: Invoke dbt with `dbt build`",
            "model orders",
            "not_null_orders_id",
        ):
            self.assertIn(part, message)
        last = [f"{HOST}/deploy/{ACCOUNT}/projects/4101/runs/123456/", "dbtrigger-reason: error"]
        self.assertEqual(message.split("\n")[-2:], last)
        self.assertNotIn("late", message)
        self.assertEqual(done["task_values"]["dbt_run_status"], "ERROR")
        self.assertIsNone(done["exit"])

    def ends(self, case, **widgets):
        """Plays a case of tests/failures; returns the fake dbt, the result and the artifact requests."""
        dbt = FakeDbt()
        dbt.ending = case
        job = 222223 if case["run"]["status"] == 20 else 222222
        allowed = {"override_keys": sorted(case["overrides"])}
        done = self.play(dbt, job, settings=allowed, dbtrigger_overrides=json.dumps(case["overrides"]), **widgets)
        asked = [query for _, operation, query in dbt.log if operation == "dbt:runs/artifacts/get"]
        return dbt, done, asked

    def test_each_end_is_told_as_the_cases_say(self):
        with open(os.path.join(ROOT, "tests", "failures", "cases.json")) as file:
            cases = json.load(file)
        good = 0
        for case in cases:
            with self.subTest(case["name"]):
                _, done, asked = self.ends(case)
                expect = case["expect"]
                if case["run"]["status"] != 20:
                    self.assertEqual((json.loads(done["exit"])["status"], asked), ("SUCCESS", []))
                    good += 1
                    continue
                message = done["exception"]["message"]
                self.assertEqual(self.reason(done), "error", message)
                steps = [int(number) for number in re.findall(r"Failed step (\d+)", message)]
                self.assertEqual(steps, [expect["step"]] if expect["step"] else [], message)
                nodes = [node.split(".")[-1] for node in expect["nodes"]]
                self.assertEqual(re.findall(r"^Failed: \w+ (\w+)", message, re.M), nodes, message)
                for text in expect["says"]:
                    self.assertIn(text, message)
                self.assertLessEqual(len(asked), expect.get("asks", 6))
                self.assertNotIn("\x1b", message)
                good += 1
        print(f"\nhow runs end, told by the notebook: {good} of {len(cases)}")
        self.assertEqual(good, len(cases))

    def test_logs_and_results_of_any_length_hide_neither_step_nor_models(self):
        build = {"job": {"execute_steps": ["dbt build"]}, "overrides": {}, "run": {"status": 20}}
        log = "06:00:00 \x1b[31mbuilding\x1b[0m \u00e4\U0001f600\\ \"\n" * 1_000 + ("x" * 500 + "\n") * 35_000
        log += "Compilation Error in model orders\n"
        good = 0
        for nodes, says in ([], "Log: Compilation Error in model orders"), (["model.shop.orders"], "Failed: model orders"):
            steps = [["Clone git repository", 10, "x"], ["Invoke dbt with `dbt build`", 20, log]]
            case = {**build, "steps": steps, "files": {"2": nodes} if nodes else {}}
            dbt = FakeDbt()
            dbt.ending, dbt.padding = case, log
            done = self.play(dbt, 222223)
            self.assertIn("Failed step 2: Invoke dbt with `dbt build`", done["exception"]["message"])
            self.assertIn(says, done["exception"]["message"])
            good += 1
        print(f"\nanswers beyond the cap, read all the same: {good} of 2")
        # A file that is still too large is fetched only once.
        dbt = FakeDbt(faults=["dbt:runs/artifacts/get=huge,times=forever"])
        done = self.play(dbt, 222223)
        self.assertEqual(len([1 for _, operation, _ in dbt.log if operation == "dbt:runs/artifacts/get"]), 1)
        self.assertIn("Failed step 4", done["exception"]["message"])

    def test_a_failure_is_told_even_where_its_details_cannot_be_read(self):
        for fault in ("status=500", "login", "wrong-type", "hang", "empty", "deep", "status=404"):
            with self.subTest(fault):
                done = self.play(FakeDbt(faults=[f"dbt:runs/artifacts/get={fault},times=forever"]), 222223)
                self.assertEqual(done["exception"]["class"], "DbtRunFailed")
                self.assertIn("Failed step 4", done["exception"]["message"])

    def test_a_cancelled_run_is_another_failure_than_a_failed_one(self):
        done = self.play(FakeDbt(), 222224)
        self.assertEqual(done["exception"]["class"], "DbtRunCancelled")
        self.assertIn("Cancelled by user.", done["exception"]["message"])

    def test_unknown_statuses_are_shown_raw(self):
        done = self.play(FakeDbt(faults=["dbt:runs/get=unknown-status,nth=4"]))
        self.assertIn("DbtJobRunStatus(99)", done["lines"])
        self.assertIn("DbtJobRunStatus.SUCCESS", done["lines"])

    # Input.
    def test_a_missing_or_odd_job_id_is_refused_before_anything_is_sent(self):
        for text in ("", "  ", "abc", "12a", "-1", "0", "1.5", "{{job.parameters.job_id}}", "٣", "9" * 30, "1;2"):
            dbt = FakeDbt()
            done = self.play(dbt, job=text)
            self.assertEqual((self.reason(done), dbt.log), ("input", []), text)
            self.assertIn("job_id", done["exception"]["message"])

    def test_the_second_job_id_wins(self):
        dbt = FakeDbt()
        self.play(dbt, job="17", dbtrigger_job_id=" 222222 ")
        self.assertEqual([run["job"] for run in dbt.runs], [222222])

    def test_only_allowed_jobs_are_started(self):
        dbt = FakeDbt()
        done = self.play(dbt, settings={"job_ids": [222223]})
        self.assertEqual((self.reason(done), dbt.log), ("input", []))
        self.assertIsNone(self.play(FakeDbt(), settings={"job_ids": [222223, 222222]})["exception"])

    def test_only_allowed_and_well_formed_overrides_are_sent(self):
        allowed = {"override_keys": ["git_branch", "threads_override", "steps_override", "generate_docs_override"]}
        for text in (
            "[]", "1", "{", "null", "[" * 100_000, '{"cause": "x"}', '{"schema_override": "x"}', '{"git_branch": ""}',
            '{"git_branch": 1}', '{"threads_override": true}', '{"threads_override": "4"}', '{"steps_override": []}',
            '{"steps_override": "dbt build"}', '{"steps_override": ["dbt build", ""]}', '{"generate_docs_override": 1}',
        ):  # fmt: skip
            dbt = FakeDbt()
            done = self.play(dbt, settings=allowed, dbtrigger_overrides=text)
            self.assertEqual((self.reason(done), dbt.log), ("input", []), text)
        dbt = FakeDbt()
        good = {
            "git_branch": "main",
            "threads_override": 4,
            "steps_override": ["dbt build"],
            "generate_docs_override": False,
        }
        done = self.play(dbt, settings=allowed, dbtrigger_overrides=json.dumps({**good, "schema_override": None}))
        self.assertEqual(dbt.runs[0]["body"], good)

    def test_a_pull_request_goes_with_one_commit_or_branch_and_no_other_request(self):
        names = ["azure_pull_request_id", "github_pull_request_id", "gitlab_merge_request_id", "non_native_pull_request_id"]
        allowed, good, total = {"override_keys": names + ["git_branch", "git_sha"]}, 0, 0
        for name in names:
            cases = [({name: 7}, False), ({name: 7, "git_sha": "a1"}, True), ({name: 7, "git_branch": "b"}, True)]
            cases += [({name: 7, other: 8, "git_sha": "a1"}, False) for other in names if other != name]
            for overrides, right in cases:
                dbt = FakeDbt()
                done = self.play(dbt, settings=allowed, dbtrigger_overrides=json.dumps(overrides))
                total += 1
                good += (self.reason(done), dbt.posts) == ((None, 1) if right else ("input", 0))
        print(f"\npull requests, started or refused by the notebook: {good} of {total}")
        self.assertEqual(good, total)

    def test_other_input_is_refused_by_name(self):
        for name, values in {
            "dbtrigger_timeout_minutes": ("x", "0", "-1", "1.5", "999999"),
            "dbtrigger_on_timeout": ("stop",),
            "dbtrigger_mode": ("dry-run",),
            "dbtrigger_on_repair": ("again",),
        }.items():
            for value in values:
                dbt = FakeDbt()
                done = self.play(dbt, **{name: value})
                self.assertEqual((self.reason(done), dbt.log), ("input", []), value)
                self.assertIn(name, done["exception"]["message"])

    def test_the_key_goes_to_a_plain_https_host_or_a_loopback_address_only(self):
        for host in (
            "http://ab123.us1.dbt.com",
            "http://localhost:80",
            "ftp://x",
            "https://a@b",
            "https://a/b",
            "https://",
            "x",
        ):
            dbt = FakeDbt()
            done = self.play(dbt, settings={"dbt_host": host})
            self.assertEqual((self.reason(done), dbt.log), ("input", []), host)
        for account in ("", "1/../2", "12a"):
            self.assertEqual(self.reason(self.play(FakeDbt(), settings={"account_id": account})), "input")

    def test_a_host_that_the_program_takes_is_taken_and_one_that_it_refuses_is_refused(self):
        with open(os.path.join(os.path.dirname(__file__), "hosts.json"), encoding="utf-8") as file:
            hosts = json.load(file)
        rows = [(origin, True) for _, origin in hosts["accepted"]] + [(text, False) for text in hosts["refused"]]
        good = [self.reason(self.play(FakeDbt(), settings={"dbt_host": host})) for host, _ in rows]
        wrong = [(row, reason) for row, reason in zip(rows, good) if (reason != "input") is not row[1]]
        print(f"hosts of the notebook: {len(rows) - len(wrong)} of {len(rows)}")
        self.assertEqual(wrong, [])

    # The dbt API key.
    def test_a_secret_that_cannot_be_read_is_told_with_its_name(self):
        done = self.play(FakeDbt(), case={"secret_error": "PERMISSION_DENIED: no READ"})
        self.assertEqual(self.reason(done), "secret")
        self.assertIn("'api-key' in scope 'dbt-cloud'", done["exception"]["message"])

    def test_a_secret_with_odd_characters_is_never_sent_nor_shown(self):
        for secret in ("", "short", "two words here", "dbtc_line\nbreak0123", "dbtc_ünicode0123456"):
            dbt = FakeDbt()
            done = self.play(dbt, case={"secret": secret})
            self.assertEqual((self.reason(done), dbt.log), ("secret", []))
            if len(secret) > 8:
                self.assertNotIn(secret[:9], json.dumps(done))
            # Check mode reports the key itself as malformed, not a missing permission.
            done = self.play(FakeDbt(), case={"secret": secret}, dbtrigger_mode="check")
            self.assertEqual(done["exception"]["message"].split("\n")[-1], "dbtrigger-reason: key-malformed")

    def test_a_trailing_line_end_of_the_secret_is_cut(self):
        self.assertIsNone(self.play(FakeDbt(), case={"secret": TOKEN + "\n"})["exception"])

    def test_an_echoed_key_is_struck_out(self):
        coded = base64.b64encode(b"x" + f"Token {TOKEN}".encode()).decode()
        split = TOKEN[:5] + "\x00" + TOKEN[5:]
        for echo in (TOKEN, coded, TOKEN.encode().hex(), split, "%2B".join(TOKEN.split("+")), "\x1b[31m" + TOKEN):
            dbt = FakeDbt(faults=["dbt:jobs/run=status=400,times=forever"])
            dbt.echo = echo
            done = self.play(dbt)
            self.assertEqual(self.reason(done), "rejected")
            self.assertNotIn("\x1b", done["exception"]["message"])
            self.assertNotIn(coded[12:40], json.dumps(done))

    def test_a_long_answer_is_shortened(self):
        dbt = FakeDbt(faults=["dbt:jobs/run=status=400,times=forever"])
        dbt.echo = "words " * 1000
        self.assertLess(len(self.play(dbt)["exception"]["message"]), 400)

    # The idempotency key.
    def test_an_unfilled_key_means_a_fresh_one(self):
        causes = set()
        for key in ("", "{{workspace.id}}/{{job.run_id}}/{{task.name}}/{{job.repair_count}}", "1/{{job.run_id}}/t/0"):
            dbt = FakeDbt()
            self.play(dbt, key=key)
            causes.add(dbt.runs[0]["cause"])
        self.assertEqual(len(causes), 3)
        for cause in causes:
            self.assertRegex(cause, r"^\[dbtrigger:notebook/[0-9a-f]{32}\] Triggered by Databricks Workflows$")

    def test_the_cause_stays_within_its_limits_whatever_the_key_is(self):
        causes = set()
        keys = ("a" * 400, "a" * 401, "tâche\n'; --", "tâche\n'; -_", "x--y", "x-y", "/*a*/", "]" * 30, "é" * 100)
        for key in keys:
            dbt = FakeDbt()  # checks the form and length of the cause
            self.play(dbt, key=key, dbtrigger_attempt="12")
            causes.add(dbt.runs[0]["cause"])
            self.assertRegex(dbt.runs[0]["cause"], r"^\[dbtrigger:[a-z0-9._:/-]+\] ")
        self.assertEqual(len(causes), len(keys))

    # Retries and repairs.
    def test_a_task_retry_finds_its_run_again_behind_hundreds_of_others(self):
        dbt = FakeDbt()
        dbt.create(222222, marker(), START - 3000 * 1000)
        for number in range(350):
            dbt.create(222222, marker(f"other/{number}"), START - 2000 * 1000, outcome=SUCCESS)["cancelled"] = (
                START - 1999_000
            )
        done = self.play(dbt, dbtrigger_attempt="2")
        self.assertEqual((dbt.posts, json.loads(done["exit"])["dbt_run_id"]), (0, "123456"))

    def test_rows_without_a_trigger_are_no_no(self):
        dbt = FakeDbt(faults=["dbt:jobs/run=reset,phase=after"])
        dbt.null_triggers = True
        done = self.play(dbt)
        self.assertEqual((dbt.posts, json.loads(done["exit"])["status"]), (1, "SUCCESS"))

    def test_a_second_failure_is_triggered_in_a_round_of_its_own_and_found_again(self):
        dbt = FakeDbt(faults=["dbt:runs/retry=status=400,times=forever"])
        for attempt in (1, 2, 3):
            done = self.play(dbt, 222223, dbtrigger_attempt=str(attempt), case={"start_ms": max(dbt.now, START)})
            self.assertEqual(self.reason(done), "error")
        rounds = [re.search(r"\[dbtrigger:.*\]", run["cause"]).group() for run in dbt.runs]
        self.assertEqual(rounds, [f"[dbtrigger:{KEY}]", f"[dbtrigger:{KEY}:2]", f"[dbtrigger:{KEY}:3]"])

    def test_a_repair_triggers_anew_unless_told_to_resume(self):
        repair = KEY[:-1] + "1"
        for choice, retries, posts in (("new", 0, 1), ("resume", 1, 0)):
            dbt = FakeDbt()
            dbt.create(222223, marker(), START - 900_000)
            self.play(dbt, 222223, key=repair, dbtrigger_on_repair=choice)
            self.assertEqual((dbt.retries, dbt.posts), (retries, posts), choice)

    def test_a_repair_of_a_cancelled_run_triggers_anew(self):
        dbt = FakeDbt()
        dbt.create(222222, marker(), START - 900_000)["cancelled"] = START - 800_000
        done = self.play(dbt, key=KEY[:-1] + "1", dbtrigger_on_repair="resume")
        self.assertEqual((dbt.posts, json.loads(done["exit"])["adopted"]), (1, False))

    # Duplicate runs.
    def test_a_second_run_is_cancelled_while_it_waits_and_said(self):
        dbt = FakeDbt(faults=["dbt:jobs/run=reset,phase=after"])
        dbt.duplicate_run_delays_ms = [40_000]
        done = self.play(dbt)
        self.assertEqual((dbt.posts, dbt.cancels), (1, [123457]))
        result = json.loads(done["exit"])
        self.assertEqual(result["duplicates"], [{"dbt_run_id": "123457", "fate": "cancelled"}])
        self.assertTrue(any("WARNING" in line for line in done["lines"]))

    def test_a_second_run_that_did_not_come_in_through_the_api_is_left_and_said(self):
        dbt = FakeDbt(faults=["dbt:jobs/run=reset,phase=after"])
        dbt.duplicate_run_delays_ms = [40_000]
        create = dbt.create
        dbt.create = lambda *a, **k: create(*a, **{**k, "category": "ui" if len(dbt.runs) else "api"})
        done = self.play(dbt)
        self.assertEqual(dbt.cancels, [])
        self.assertIn("not canceled; check it", "\n".join(done["lines"]))

    def test_a_cancel_that_fails_is_tried_again(self):
        dbt = FakeDbt(faults=["dbt:jobs/run=reset,phase=after", "dbt:runs/cancel=status=500,times=2"])
        dbt.duplicate_run_delays_ms = [20_000]
        done = self.play(dbt)
        self.assertEqual(json.loads(done["exit"])["duplicates"], [{"dbt_run_id": "123457", "fate": "cancelled"}])

    def test_a_run_of_another_caller_between_any_two_requests_is_found(self):
        total = good = 0
        for age_days in (None, 1, 9):
            for faults in ([], ["dbt:jobs/run=reset,phase=after"], ["dbt:jobs/run=reset,phase=before"]):
                for number in range(1, 100):
                    dbt = FakeDbt(faults=faults)
                    if age_days:
                        dbt.create(222222, "by hand", START - age_days * 24 * HOUR)
                    dbt.other_caller = (number, 222222, marker())
                    done = self.play(dbt, dbtrigger_attempt="1")
                    if dbt.other_caller:
                        break
                    total += 1
                    dbt.now += HOUR
                    ours = [run for run in dbt.runs if run["cause"] == marker()]
                    result = json.loads(done["exit"])
                    worked = [run["id"] for run in ours if dbt.worked(run)]
                    good += worked == [int(result["dbt_run_id"])] and len(result["duplicates"]) == len(ours) - 1
        print(f"\nrun of another caller between any two requests, notebook: {good} of {total}")
        self.assertEqual(good, total)

    # Timeouts.
    def test_the_deadline_holds_to_the_second_under_every_fault(self):
        for fault in (
            "status=500",
            "hang",
            "drip",
            "silence",
            "retry-after-huge",
            "no-name",
            "login",
            "status=404,nth=1",
        ):
            with self.subTest(fault):
                times = "" if "nth" in fault else ",times=forever"
                dbt = FakeDbt(faults=[f"dbt:runs/get={fault}{times}"])
                done = self.play(dbt, dbtrigger_timeout_minutes="2")
                self.assertEqual(self.reason(done), "timeout")
                late = (done["now"] - START) / 1000 - 120
                self.assertTrue(-0.01 <= late <= 6.1, late)  # one last request of at most 5 seconds
                self.assertEqual(dbt.cancels, [])
                self.assertIn("is still running", done["exception"]["message"])

    def test_at_the_deadline_the_run_is_cancelled_if_so_told(self):
        dbt = FakeDbt()
        done = self.play(dbt, dbtrigger_timeout_minutes="2", dbtrigger_on_timeout="cancel")
        self.assertEqual((self.reason(done), dbt.cancels), ("timeout", [123456]))
        self.assertIn("was canceled", done["exception"]["message"])

    def test_a_run_that_ends_right_at_the_deadline_is_not_lost(self):
        done = self.play(FakeDbt(), dbtrigger_timeout_minutes="4", case={"latency_ms": 0})
        self.assertIn(self.reason(done), (None, "timeout"))
        dbt = FakeDbt()
        dbt.create(222222, marker(), START - 1000)
        done = self.play(dbt, dbtrigger_timeout_minutes="4", case={"latency_ms": 0})
        self.assertEqual(json.loads(done["exit"])["status"], "SUCCESS")

    def test_a_certificate_error_ends_it_at_once(self):
        dbt = FakeDbt(faults=["dbt:*=certificate,times=forever"])
        done = self.play(dbt)
        self.assertEqual((self.reason(done), len(dbt.log)), ("network", 1))
        self.assertIn("REQUESTS_CA_BUNDLE", done["exception"]["message"])

    def test_a_run_that_is_gone_ends_the_waiting(self):
        done = self.play(FakeDbt(faults=["dbt:runs/get=status=404,times=forever"]))
        self.assertEqual(self.reason(done), "not-found")
        self.assertTrue(60 <= (done["now"] - START) / 1000 <= 120)

    def test_polling_stays_far_below_the_accounts_limit(self):
        dbt = FakeDbt()
        for number in range(15):
            dbt.create(222222, marker(f"x/{number}"), START - 1000)  # an hour of queue
        self.play(dbt)
        polls = collections.Counter(at // 60_000 for at, operation, _ in dbt.log if operation == "dbt:runs/get")
        self.assertLessEqual(max(polls.values()), 14)
        self.assertLessEqual(max(count for minute, count in polls.items() if minute > 12), 5)

    # Interruption.
    def test_an_interrupted_notebook_cancels_its_run_at_any_moment(self):
        for moment in range(0, 240_000, 7_000):
            dbt = FakeDbt()
            done = self.play(dbt, case={"interrupt_at_ms": moment})
            self.assertEqual(done["exception"]["class"], "KeyboardInterrupt")
            self.assertEqual(dbt.cancels, [123456], moment)

    def test_an_interruption_during_any_request_leaves_no_run_behind(self):
        for number in range(1, 30):
            for faults in ([], ["dbt:jobs/run=reset,phase=after"], ["dbt:jobs/run=status=502,phase=before"]):
                dbt = FakeDbt(faults=faults, lag_ms=6_000 * (number % 2))
                done = self.play(dbt, case={"interrupt_at_request": number})
                self.assertEqual(done["exception"]["class"], "KeyboardInterrupt", (number, faults))
                dbt.now += HOUR
                self.assertEqual([run["id"] for run in dbt.runs], dbt.cancels, (number, faults))

    def test_cancelling_after_an_interruption_takes_seconds_whatever_happens(self):
        for fault in ("hang", "status=500", "drip", "retry-after-huge"):
            dbt = FakeDbt(faults=[f"dbt:runs/cancel={fault},times=forever"])
            done = self.play(dbt, case={"interrupt_at_ms": 60_000})
            self.assertEqual(done["exception"]["class"], "KeyboardInterrupt")
            self.assertLess(done["now"] - START, 60_000 + 40_000)

    def test_killed_at_any_request_the_next_attempt_makes_no_second_run(self):
        for lag in (0, 5_000):
            for number in range(1, 24):
                for phase in ("before", "after"):
                    dbt = FakeDbt(faults=[f"dbt:*=kill,nth={number},phase={phase}"], lag_ms=lag)
                    done = self.play(dbt)
                    self.assertTrue(done["killed"])
                    again = self.play(dbt, dbtrigger_attempt="2", case={"start_ms": dbt.now + 30_000})
                    self.assertEqual((again["killed"], len(dbt.runs)), (False, 1), (number, phase))
                    self.assertEqual(json.loads(again["exit"])["status"], "SUCCESS")

    def test_a_run_of_a_killed_attempt_that_shows_late_is_the_one_that_counts(self):
        for lag in (0, 20_000, 50_000):
            for pause in (2_000, 10_000, 30_000):
                dbt = FakeDbt(faults=["dbt:jobs/run=kill,phase=after"], lag_ms=lag)
                self.assertTrue(self.play(dbt)["killed"])
                start = {"start_ms": dbt.now + pause}
                done = self.play(dbt, dbtrigger_attempt="2", case=start)
                self.assertEqual(json.loads(done["exit"])["dbt_run_id"], "123456", (lag, pause))
                dbt.now += HOUR
                self.assertEqual([dbt.worked(run) for run in dbt.runs], [True, False][: len(dbt.runs)], (lag, pause))

    def test_a_resumed_run_of_a_killed_attempt_that_shows_late_is_the_one_that_counts(self):
        for lag in (0, 20_000, 50_000):
            dbt = FakeDbt(faults=["dbt:runs/retry=kill,phase=after"], lag_ms=lag)
            dbt.create(222223, marker(), START - 900_000)
            self.assertTrue(self.play(dbt, 222223, dbtrigger_attempt="2")["killed"])
            done = self.play(dbt, 222223, dbtrigger_attempt="3", case={"start_ms": dbt.now + 5_000})
            self.assertEqual((self.reason(done), len(dbt.runs), dbt.posts), ("error", 2, 0), lag)

    # Check mode.
    def test_check_mode_sees_the_job_and_triggers_nothing(self):
        for job in (222222, ""):
            dbt = FakeDbt(
                jobs={222222: {"triggers": {"schedule": True}, "deactivated": True, "name": "Nightly\x1b[31m build"}}
            )
            done = self.play(dbt, job, dbtrigger_mode="check")
            result = json.loads(done["exit"])
            self.assertEqual((result["mode"], result["ok"], dbt.posts), ("check", True, 0))
            self.assertEqual(len(result["remarks"]), 2 if job else 0)
            self.assertNotIn("\x1b", done["exit"])

    def test_check_mode_tells_what_is_wrong(self):
        words = {
            "no-name": ("network", "name", "name"),
            "refused": ("network", "refused", "egress"),
            "blackhole": ("network", "egress", "egress"),
            "certificate": ("network", "certificate", "tls"),
            "proxy": ("network", "HTTPS_PROXY", "proxy"),
            "status=401": ("not-allowed", "expired", "key-refused"),
            "status=403": ("not-allowed", "IP restrictions", "key-not-allowed"),
            "status=403,denied": ("not-allowed", "outgoing IP addresses", "address-refused"),
            "status=404": ("not-found", "no such job", "job-not-visible"),
            "status=503": ("unavailable", "503", "unavailable"),
            "login": ("unexpected-response", "sign-in page", "unexpected-response"),
            "redirect=https://other.invalid/x": ("unexpected-response", "other.invalid", "unexpected-response"),
        }
        for fault, (reason, word, verdict) in words.items():
            with self.subTest(fault):
                dbt = FakeDbt(faults=[f"dbt:*={fault.split(',')[0]},times=forever"])
                dbt.denied = {"account_id": ACCOUNT, "account_access_denied": True} if "denied" in fault else None
                done = self.play(dbt, dbtrigger_mode="check")
                self.assertEqual((self.reason(done), dbt.posts), (reason, 0))
                self.assertIn(word, done["exception"]["message"])
                self.assertEqual(done["exception"]["message"].split("\n")[-1], f"dbtrigger-reason: {verdict}")
                self.assertLess(done["now"] - START, 130_000)
        # Errors before the first request to dbt carry the reason too, in both modes.
        for mode in ("check", "run"):
            done = self.play(FakeDbt(), "x", dbtrigger_mode=mode)
            self.assertEqual(self.reason(done), "input")
            self.assertEqual(done["exception"]["message"].split("\n")[-1], "dbtrigger-reason: input")
        done = self.play(FakeDbt(faults=["dbt:*=status=401,times=forever"]))
        self.assertEqual(done["exception"]["message"].split("\n")[-1], "dbtrigger-reason: key-refused")

    def test_a_job_that_would_not_start_is_not_triggered(self):
        good, cases = 0, [
            ({"deactivated": True, "run_failure_count": 100}, "100 runs in a row failed"),
            ({"deactivated": True, "deactivation_reason": "Account inactivity"}, "Account inactivity"),
            ({"deactivated": True}, "deactivated"),
            ({"job_type": "hybrid", "execute_steps": []}, "hybrid"),
            ({"state": 2}, "deleted"),
        ]  # fmt: skip
        for job, says in cases:
            with self.subTest(says):
                dbt = FakeDbt(jobs={222222: job})
                done = self.play(dbt)
                self.assertEqual((self.reason(done), dbt.posts), ("refused", 0))
                self.assertIn(says, done["exception"]["message"])
                self.assertEqual(done["exception"]["message"].split("\n")[-1], "dbtrigger-reason: job-off")
                good += 1
        print(f"\njobs that would not start, told by the notebook: {good} of {len(cases)}")
        # A failed lookup does not block the trigger.
        done = self.play(FakeDbt(faults=["dbt:jobs/get=status=500,times=forever"]))
        self.assertEqual(json.loads(done["exit"])["status"], "SUCCESS")


if __name__ == "__main__":
    unittest.main()
