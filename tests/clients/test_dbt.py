"""dbt Cloud clients (dbtc, dbt-cloud-cli, others' requests) against the sandbox. `main.rs` starts one per test."""

import os
import json
import unittest

import requests
from click.testing import CliRunner
from dbtc import dbtCloudClient
from dbt_cloud.cli import dbt_cloud

HOST, TOKEN = os.environ.get("DBT_CLOUD_HOST"), os.environ.get("DBT_CLOUD_TOKEN")
ACCOUNT = int(os.environ.get("DBT_CLOUD_ACCOUNT_ID", "0"))
SUCCEEDS, FAILS, WAITS = 222222, 222223, 222225
SUCCESS, ERROR, CANCELLED = 10, 20, 30


class Dbtc(unittest.TestCase):
    def setUp(self):
        self.cloud = dbtCloudClient(service_token=TOKEN).cloud
        self.addCleanup(self.cloud.session.close)

    def test_accounts_projects_and_environments(self):
        self.assertEqual([row["id"] for row in self.cloud.list_accounts()["data"]], [ACCOUNT])
        self.assertEqual(self.cloud.get_account(ACCOUNT)["data"]["id"], ACCOUNT)
        projects = self.cloud.list_projects(ACCOUNT)["data"]
        self.assertEqual(len(projects), 2)
        project = projects[0]["id"]
        self.assertEqual(self.cloud.get_project(ACCOUNT, project)["data"]["id"], project)
        self.assertEqual(self.cloud.get_project_by_name(projects[1]["name"], ACCOUNT)["data"]["id"], projects[1]["id"])
        environments = self.cloud.list_environments(ACCOUNT, project)["data"]
        environment = self.cloud.get_environment(ACCOUNT, project, environments[0]["id"])["data"]
        self.assertEqual(environment["name"], environments[0]["name"])

    def test_jobs_in_pages(self):
        found, offset = [], 0
        while True:
            page = self.cloud.list_jobs(ACCOUNT, limit=50, offset=offset, order_by="id")
            found += [row["id"] for row in page["data"]]
            offset += page["extra"]["pagination"]["count"]
            if offset >= page["extra"]["pagination"]["total_count"]:
                break
        self.assertGreater(len(found), 100)
        self.assertEqual(found, sorted(set(found)))
        project = self.cloud.list_projects(ACCOUNT)["data"][1]["id"]
        some = self.cloud.list_jobs(ACCOUNT, project_id=[project])["data"]
        self.assertEqual({row["project_id"] for row in some}, {project})
        job = self.cloud.get_job(ACCOUNT, SUCCEEDS, include_related=["environment"])["data"]
        self.assertIsNotNone(job["environment"])

    def test_a_run_from_trigger_to_artifacts(self):
        run = self.cloud.trigger_job(ACCOUNT, SUCCEEDS, {"cause": "dbtc", "git_branch": "main"}, poll_interval=0.2)["data"]
        self.assertEqual(run["status"], SUCCESS)
        whole = self.cloud.get_run(ACCOUNT, run["id"], include_related=["trigger", "job", "run_steps", "debug_logs"])
        self.assertEqual(whole["data"]["trigger"]["cause"], "dbtc")
        self.assertTrue(all(step["status"] == SUCCESS for step in whole["data"]["run_steps"]))
        listed = self.cloud.list_runs(ACCOUNT, job_definition_id=SUCCEEDS, status=["success"], order_by="-id", limit=1)
        self.assertEqual(listed["data"][0]["id"], run["id"])
        self.assertEqual(self.cloud.get_most_recent_run(ACCOUNT, job_definition_id=SUCCEEDS)["data"]["id"], run["id"])
        paths = self.cloud.list_run_artifacts(ACCOUNT, run["id"])["data"]
        self.assertIn("run_results.json", paths)
        results = self.cloud.get_run_artifact(ACCOUNT, run["id"], "run_results.json")
        self.assertEqual({row["status"] for row in results["results"]}, {"success", "pass"})

    def test_a_failure_is_resumed(self):
        run = self.cloud.trigger_job(ACCOUNT, FAILS, {"cause": "dbtc"}, poll_interval=0.2)["data"]
        self.assertEqual(run["status"], ERROR)
        again = self.cloud.trigger_job_from_failure(ACCOUNT, FAILS, should_poll=False)["data"]
        self.assertEqual(again["retrying_run_id"], run["id"])

    def test_cancel(self):
        run = self.cloud.trigger_job(ACCOUNT, WAITS, {"cause": "dbtc"}, should_poll=False)["data"]
        self.assertEqual(self.cloud.cancel_run(ACCOUNT, run["id"])["data"]["status"], CANCELLED)

    def test_a_pull_requests_job(self):
        payload = {"cause": "dbtc", "git_sha": "a" * 40, "schema_override": "pr_1", "github_pull_request_id": 1}
        run = self.cloud.trigger_autoscaling_ci_job(ACCOUNT, SUCCEEDS, payload, poll_interval=0.2)["data"]
        self.assertEqual(run["job_definition_id"], SUCCEEDS)

    def test_refusals_are_the_envelope(self):
        wrong = dbtCloudClient(service_token="dbtc_wrong").cloud
        self.addCleanup(wrong.session.close)
        self.assertEqual(wrong.list_jobs(ACCOUNT)["status"]["code"], 401)
        self.assertEqual(self.cloud.get_job(ACCOUNT, 1)["status"]["code"], 404)
        self.assertEqual(self.cloud.get_job(ACCOUNT + 1, SUCCEEDS)["status"]["code"], 403)


class DbtCloudCli(unittest.TestCase):
    """dbt-cloud-cli omits the trailing slash in reads, sends unset overrides as null, and lists as JSON text."""

    def run_command(self, *arguments, exit_code=0):
        environment = {"DBT_CLOUD_API_TOKEN": TOKEN, "DBT_CLOUD_HOST": HOST, "DBT_CLOUD_ACCOUNT_ID": str(ACCOUNT)}
        result = CliRunner().invoke(dbt_cloud, list(arguments), env=environment)
        self.assertEqual(result.exit_code, exit_code, result.output)
        return result.output

    def test_lists(self):
        self.assertIn(str(SUCCEEDS), self.run_command("job", "list"))
        self.assertIn("Jaffle Shop", self.run_command("project", "list"))
        self.assertIn(str(ACCOUNT), self.run_command("account", "list"))
        self.assertIn(str(SUCCEEDS), self.run_command("job", "get", "--job-id", str(SUCCEEDS)))
        self.assertIn("status", self.run_command("run", "list", "--limit", "5"))

    def test_a_run(self):
        output = self.run_command("job", "run", "--job-id", str(SUCCEEDS))
        run = str(json.loads(output[output.index("{") :])["data"]["id"])
        self.assertIn(run, self.run_command("run", "get", "--run-id", run))
        self.assertIn(run, self.run_command("run", "cancel", "--run-id", run))
        self.run_command("job", "run", "--job-id", str(SUCCEEDS), "--wait")
        self.run_command("job", "run", "--job-id", str(FAILS), "--wait", exit_code=1)


class Others(unittest.TestCase):
    """Requests as sent by Airflow, Dagster, Prefect, Terraform and dbt's own tools."""

    def setUp(self):
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Token {TOKEN}"
        self.addCleanup(self.session.close)
        self.base = f"https://{HOST}/api/v2/accounts/{ACCOUNT}"

    def ok(self, answer):
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.json()["data"]

    def test_both_schemes_and_both_names_of_this_machine(self):
        for scheme in ("Token", "Bearer"):
            for host in (HOST, HOST.replace("127.0.0.1", "localhost")):
                url = f"https://{host}/api/v3/accounts/"
                self.ok(requests.get(url, headers={"Authorization": f"{scheme} {TOKEN}"}, timeout=30))

    def test_paths_with_and_without_the_last_slash(self):
        for end in ("", "/"):
            self.ok(self.session.get(f"{self.base}/jobs/{SUCCEEDS}{end}"))
            run = self.ok(self.session.post(f"{self.base}/jobs/{WAITS}/run{end}", json={"cause": "x"}))["id"]
            self.ok(self.session.get(f"{self.base}/runs/{run}{end}"))
            self.ok(self.session.post(f"{self.base}/runs/{run}/cancel{end}"))

    def test_a_job_is_made_changed_and_deleted(self):
        home = self.ok(self.session.get(f"{self.base}/jobs/{SUCCEEDS}/"))
        least = {name: home[name] for name in ("account_id", "project_id", "environment_id")}
        made = self.ok(self.session.post(f"{self.base}/jobs", json={**least, "name": "Made", "job_type": "other"}))
        url = f"{self.base}/jobs/{made['id']}/"
        # Dagster and dbt-jobs-as-code send back everything they read.
        self.ok(self.session.post(url, json={**made, "execute_steps": ["dbt seed"], "settings": {"threads": 8}}))
        seen = self.ok(self.session.get(url))
        self.assertEqual((seen["execute_steps"], seen["settings"]["threads"]), (["dbt seed"], 8))
        run = self.ok(self.session.post(f"{url}run/", json={"cause": "x"}))
        self.assertFalse(run.get("job", {}).get("triggers", {}).get("schedule"))
        self.assertEqual(self.ok(self.session.delete(url))["id"], made["id"])
        self.assertEqual(self.session.get(url).status_code, 404)

    def test_what_is_read_beside_a_job(self):
        project, environment = (self.ok(self.session.get(f"{self.base}/jobs/{SUCCEEDS}/"))[name] for name in ("project_id", "environment_id"))
        self.assertEqual(self.ok(self.session.get(f"{self.base}/projects/{project}"))["id"], project)
        self.assertEqual(self.ok(self.session.get(f"{self.base}/environments/{environment}"))["id"], environment)
        newer = self.base.replace("/v2/", "/v3/")
        listed = self.ok(self.session.get(f"{newer}/environments/", params={"project_id": project}))
        self.assertIn(environment, {row["id"] for row in listed})
        query = {"job_definition_id": SUCCEEDS}
        self.assertEqual(self.ok(self.session.get(f"{newer}/projects/{project}/environment-variables/job/", params=query)), {})

    def test_null_overrides_unknown_fields_and_the_account_in_the_query(self):
        body = {"cause": "x", "steps_override": None, "schema_override": None, "account_id": ACCOUNT, "job_id": SUCCEEDS}
        query = {"account_id": ACCOUNT}
        run = self.ok(self.session.post(f"{self.base}/jobs/{SUCCEEDS}/run/", json={**body, "made": "up"}, params=query))
        self.assertIsNone(run["trigger"]["schema_override"])

    def test_bodies_as_forms(self):
        body = {"cause": "x", "threads_override": "7", "generate_docs_override": "true"}
        for form in ({"data": body}, {"files": {name: (None, value) for name, value in body.items()}}):
            trigger = self.ok(self.session.post(f"{self.base}/jobs/{SUCCEEDS}/run/", **form))["trigger"]
            self.assertEqual((trigger["threads_override"], trigger["generate_docs_override"]), (7, True))

    def test_the_encodings_of_lists(self):
        run = self.ok(self.session.post(f"{self.base}/jobs/{SUCCEEDS}/run/", json={"cause": "x"}))["id"]
        for included in ("trigger,run_steps", '["trigger","run_steps"]', ["trigger", "run_steps"]):
            shown = self.ok(self.session.get(f"{self.base}/runs/{run}/", params={"include_related": included}))
            self.assertEqual(shown["trigger"]["cause"], "x", included)
            self.assertIsInstance(shown["run_steps"], list)
        for states in ("[1,2,3]", [1, 2, 3]):
            shown = self.ok(self.session.get(f"{self.base}/runs/", params={"status__in": states, "order_by": "-id"}))
            self.assertTrue(all(row["status"] in (1, 2, 3) for row in shown), states)

    def test_reading_by_the_older_and_lesser_routes(self):
        project = self.ok(self.session.get(f"{self.base}/projects/"))[0]["id"]
        environments = self.ok(self.session.get(f"{self.base}/environments/", params={"project_id": project}))
        self.assertEqual({row["project_id"] for row in environments}, {project})
        self.assertIn("email", self.ok(self.session.get(f"https://{HOST}/api/v2/whoami/"))["user"])
        results = self.session.get(f"{self.base}/jobs/{SUCCEEDS}/artifacts/run_results.json")
        self.assertEqual(results.json()["metadata"]["env"]["DBT_CLOUD_JOB_ID"], str(SUCCEEDS))
        runs = self.ok(self.session.get(f"{self.base}/runs/", params={"job_definition_id": SUCCEEDS, "limit": 1}))
        run = self.ok(self.session.get(f"{self.base}/runs/{runs[0]['id']}/?include_related=run_steps"))
        step = run["run_steps"][0]
        self.assertEqual(self.ok(self.session.get(f"{self.base}/steps/{step['id']}/"))["name"], step["name"])


if __name__ == "__main__":
    unittest.main()
