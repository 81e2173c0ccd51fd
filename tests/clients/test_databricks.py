"""The Databricks SDK for Python against the sandbox. `main.rs` starts a sandbox for each test."""

import base64
import os
import unittest
import urllib.parse

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service import iam, jobs, workspace

NOTEBOOK = "# Databricks notebook source\nprint('job', dbutils.widgets.get('job_id'))\ndbutils.notebook.exit('done')"


def task(path, key="only", depends_on=None):
    return jobs.Task(
        task_key=key,
        notebook_task=jobs.NotebookTask(notebook_path=path, base_parameters={"job_id": "1"}),
        depends_on=[jobs.TaskDependency(task_key=depends_on)] if depends_on else None,
    )


class Databricks(unittest.TestCase):
    def setUp(self):
        self.client = WorkspaceClient()
        self.me = self.client.current_user.me().user_name
        self.folder = f"/Users/{self.me}/tried"

    def imported(self, name="notebook", source=NOTEBOOK):
        path = f"{self.folder}/{name}"
        self.client.workspace.mkdirs(self.folder)
        self.client.workspace.import_(
            path,
            content=base64.b64encode(source.encode()).decode(),
            format=workspace.ImportFormat.SOURCE,
            language=workspace.Language.PYTHON,
            overwrite=True,
        )
        return path

    def test_a_wrong_token_is_refused(self):
        with self.assertRaises(PermissionDenied):
            WorkspaceClient(token="dapi-wrong-0123456789").current_user.me()

    def test_a_service_principal_signs_in_with_its_secret(self):
        client_id, secret = os.environ["TRIED_CLIENT_ID"], os.environ["TRIED_CLIENT_SECRET"]
        client = WorkspaceClient(client_id=client_id, client_secret=secret, auth_type="oauth-m2m")
        self.assertEqual(client.current_user.me().user_name, client_id)
        self.assertEqual(list(client.jobs.list()), [])
        wrong = WorkspaceClient(client_id=client_id, client_secret="dose-wrong-0123456789", auth_type="oauth-m2m")
        with self.assertRaises(Exception) as refused:
            wrong.current_user.me()
        self.assertIn("invalid_client", str(refused.exception))

    def test_secrets(self):
        secrets = self.client.secrets
        self.assertEqual(list(secrets.list_scopes()), [])
        secrets.create_scope("tried")
        with self.assertRaises(ResourceAlreadyExists):
            secrets.create_scope("tried")
        secrets.put_secret("tried", "key", string_value="va l/ue")
        secrets.put_secret("tried", "bytes", bytes_value=base64.b64encode(b"\x00\xff").decode())
        self.assertEqual([row.key for row in secrets.list_secrets("tried")], ["bytes", "key"])
        self.assertEqual(base64.b64decode(secrets.get_secret("tried", "key").value), b"va l/ue")
        self.assertEqual(self.client.dbutils.secrets.get("tried", "key"), "va l/ue")
        secrets.put_acl("tried", "data-engineers", workspace.AclPermission.READ)
        self.assertEqual(secrets.get_acl("tried", "data-engineers").permission, workspace.AclPermission.READ)
        self.assertEqual({row.principal for row in secrets.list_acls("tried")}, {self.me, "data-engineers"})
        secrets.delete_acl("tried", "data-engineers")
        with self.assertRaises(NotFound):
            secrets.get_acl("tried", "data-engineers")
        secrets.delete_secret("tried", "key")
        with self.assertRaises(NotFound):
            secrets.get_secret("tried", "key")
        with self.assertRaises(NotFound):
            secrets.delete_secret("tried", "key")
        secrets.delete_scope("tried")
        self.assertEqual(list(secrets.list_scopes()), [])

    def test_workspace(self):
        objects = self.client.workspace
        path = self.imported()
        status = objects.get_status(path)
        self.assertEqual(status.object_type, workspace.ObjectType.NOTEBOOK)
        self.assertEqual(status.language, workspace.Language.PYTHON)
        exported = objects.export(path, format=workspace.ExportFormat.SOURCE)
        self.assertEqual(base64.b64decode(exported.content).decode(), NOTEBOOK)
        with objects.download(path) as file:
            self.assertEqual(file.read().decode(), NOTEBOOK)
        objects.upload(
            f"{self.folder}/by_parts",
            NOTEBOOK.encode(),
            format=workspace.ImportFormat.SOURCE,
            language=workspace.Language.PYTHON,
            overwrite=True,
        )
        with objects.download(f"{self.folder}/by_parts") as file:
            self.assertEqual(file.read().decode(), NOTEBOOK)
        self.assertEqual({row.path for row in objects.list(self.folder)}, {path, f"{self.folder}/by_parts"})
        self.assertIn(path, {row.path for row in objects.list(f"/Users/{self.me}", recursive=True)})
        levels = self.client.workspace.get_permission_levels("notebooks", str(status.object_id))
        self.assertIn("CAN_RUN", {row.permission_level.value for row in levels.permission_levels})
        objects.update_permissions(
            "notebooks",
            str(status.object_id),
            access_control_list=[
                workspace.WorkspaceObjectAccessControlRequest(
                    group_name="data-engineers", permission_level=workspace.WorkspaceObjectPermissionLevel.CAN_RUN
                )
            ],
        )
        granted = objects.get_permissions("notebooks", str(status.object_id)).access_control_list
        self.assertIn("data-engineers", {row.group_name for row in granted})
        with self.assertRaises(DatabricksError) as refused:
            objects.delete(self.folder)
        self.assertEqual(refused.exception.error_code, "DIRECTORY_NOT_EMPTY")
        objects.delete(path)
        with self.assertRaises(NotFound):
            objects.get_status(path)
        objects.delete(self.folder, recursive=True)
        with self.assertRaises(NotFound):
            objects.delete(self.folder)

    def test_workspace_files_as_the_cli_sends_them(self):
        def sent(name, content, overwrite=False):
            path = urllib.parse.quote(f"Workspace{self.folder}/{name}", safe="")
            query = {"overwrite": "true" if overwrite else "false"}
            return self.client.api_client.do(
                "POST", f"/api/2.0/workspace-files/import-file/{path}", query=query, data=content
            )

        objects = self.client.workspace
        with self.assertRaises(NotFound):
            sent("a.txt", b"no parent yet")
        objects.mkdirs(self.folder)
        sent("a b.json", b'{"no": "notebook"}')
        with self.assertRaises(DatabricksError) as refused:
            sent("a b.json", b"{}")
        self.assertEqual(refused.exception.error_code, "RESOURCE_ALREADY_EXISTS")
        sent("a b.json", b"\x00\xff", overwrite=True)
        with objects.download(f"{self.folder}/a b.json") as file:
            self.assertEqual(file.read(), b"\x00\xff")
        sent("notebook.py", NOTEBOOK.encode())
        self.assertEqual(objects.get_status(f"{self.folder}/notebook").object_type, workspace.ObjectType.NOTEBOOK)

    def test_lists_of_what_is_beside_jobs(self):
        self.assertIn("data-engineers", {row.display_name for row in self.client.groups.list()})
        one = list(self.client.groups.list(filter='displayName eq "analysts"'))
        self.assertEqual([row.display_name for row in one], ["analysts"])
        self.assertEqual(list(self.client.warehouses.list()), [])

    def test_jobs(self):
        path = self.imported()
        made = self.client.jobs.create(name="Tried", tasks=[task(path)], tags={"a": "b"})
        for number in range(45):
            self.client.jobs.create(name=f"Another {number}", tasks=[task(path)])
        self.assertEqual(len(list(self.client.jobs.list(limit=20))), 46)
        self.assertEqual([row.job_id for row in self.client.jobs.list(name="tried")], [made.job_id])
        self.client.jobs.update(
            made.job_id, new_settings=jobs.JobSettings(tasks=[task(path, "second", "only")]), fields_to_remove=["tags"]
        )
        job = self.client.jobs.get(made.job_id)
        self.assertEqual({row.task_key for row in job.settings.tasks}, {"only", "second"})
        self.assertFalse(job.settings.tags)
        self.client.jobs.reset(made.job_id, jobs.JobSettings(name="Tried again", tasks=[task(path)]))
        self.assertEqual(self.client.jobs.get(made.job_id).settings.name, "Tried again")
        self.client.jobs.delete(made.job_id)
        with self.assertRaises(DatabricksError):
            self.client.jobs.get(made.job_id)
        self.assertEqual(len(list(self.client.jobs.list(expand_tasks=True))), 45)

    def test_a_job_of_more_than_a_hundred_tasks(self):
        path = self.imported()
        made = self.client.jobs.create(name="Large", tasks=[task(path, f"task_{number}") for number in range(130)])
        self.assertEqual(len(self.client.jobs.get(made.job_id).settings.tasks), 130)

    def test_permissions_of_a_job(self):
        made = self.client.jobs.create(name="Tried", tasks=[task(self.imported())])
        number = str(made.job_id)
        grant = jobs.JobAccessControlRequest
        level = jobs.JobPermissionLevel
        self.client.jobs.update_permissions(
            number, access_control_list=[grant(group_name="analysts", permission_level=level.CAN_VIEW)]
        )
        self.client.jobs.set_permissions(
            number,
            access_control_list=[
                grant(user_name=self.me, permission_level=level.IS_OWNER),
                grant(group_name="data-engineers", permission_level=level.CAN_MANAGE_RUN),
            ],
        )
        groups = {row.group_name for row in self.client.jobs.get_permissions(number).access_control_list}
        self.assertIn("data-engineers", groups)
        self.assertNotIn("analysts", groups)
        with self.assertRaises(DatabricksError) as refused:
            self.client.jobs.set_permissions(number, access_control_list=[])
        self.assertIn("exactly one owner", str(refused.exception))
        levels = self.client.jobs.get_permission_levels(number).permission_levels
        self.assertIn(level.IS_OWNER, {row.permission_level for row in levels})
        self.client.permissions.update(
            "jobs",
            number,
            access_control_list=[
                iam.AccessControlRequest(group_name="analysts", permission_level=iam.PermissionLevel.CAN_VIEW)
            ],
        )

    def test_runs(self):
        made = self.client.jobs.create(
            name="Tried", tasks=[task(self.imported())], parameters=[jobs.JobParameterDefinition("job_id", "1")]
        )
        run = self.client.jobs.run_now(made.job_id, job_parameters={"job_id": "42"}, idempotency_token="once")
        again = self.client.jobs.run_now(made.job_id, idempotency_token="once")
        self.assertEqual(run.run_id, again.run_id)
        ended = run.result()
        self.assertEqual(ended.state.result_state, jobs.RunResultState.SUCCESS)
        output = self.client.jobs.get_run_output(ended.tasks[0].run_id)
        self.assertEqual(output.notebook_output.result, "done")
        self.assertEqual([row.run_id for row in self.client.jobs.list_runs(job_id=made.job_id)], [run.run_id])
        self.client.jobs.delete_run(run.run_id)
        self.assertEqual(list(self.client.jobs.list_runs(job_id=made.job_id)), [])
        slow = self.imported("slow", "# Databricks notebook source\nimport time\ntime.sleep(36000)")
        made = self.client.jobs.create(name="Slow", tasks=[task(slow)])
        run = self.client.jobs.run_now(made.job_id)
        self.client.jobs.cancel_run_and_wait(run.run_id)
        ended = self.client.jobs.get_run(run.run_id)
        self.assertEqual(ended.state.result_state, jobs.RunResultState.CANCELED)

    def test_runs_without_a_job(self):
        only = jobs.SubmitTask(task_key="only", notebook_task=task(self.imported()).notebook_task)
        only.notebook_task.base_parameters = {"job_id": "1"}
        run = self.client.jobs.submit(run_name="once", tasks=[only]).result()
        self.assertEqual(run.state.result_state, jobs.RunResultState.SUCCESS)
        listed = self.client.jobs.list_runs(run_type=jobs.RunType.SUBMIT_RUN, completed_only=True)
        self.assertEqual([row.run_id for row in listed], [run.run_id])
        self.assertEqual(list(self.client.jobs.list_runs(run_type=jobs.RunType.JOB_RUN)), [])

    def test_all_runs_are_cancelled(self):
        slow = self.imported("slow", "# Databricks notebook source\nimport time\ntime.sleep(36000)")
        made = self.client.jobs.create(name="Slow", tasks=[task(slow)])
        runs = [self.client.jobs.run_now(made.job_id) for _ in range(3)]
        self.client.jobs.cancel_all_runs(job_id=made.job_id)
        for run in runs:
            ended = self.client.jobs.wait_get_run_job_terminated_or_skipped(run.run_id)
            self.assertEqual(ended.state.result_state, jobs.RunResultState.CANCELED)
        self.assertEqual(list(self.client.jobs.list_runs(job_id=made.job_id, active_only=True)), [])

    def test_people(self):
        self.assertIn(self.me, {row.user_name for row in self.client.users.list()})
        self.assertEqual([row.user_name for row in self.client.users.list(filter=f'userName eq "{self.me}"')], [self.me])
        principals = [row.application_id for row in self.client.service_principals.list()]
        self.assertIn(os.environ["TRIED_CLIENT_ID"], principals)
        self.assertEqual(len(set(principals)), len(principals))
        made = self.client.jobs.create(name="Tried", tasks=[task(self.imported())])
        nobody = iam.AccessControlRequest(user_name="nobody@example.com", permission_level=iam.PermissionLevel.CAN_VIEW)
        with self.assertRaises(NotFound):
            self.client.permissions.update("jobs", str(made.job_id), access_control_list=[nobody])
        with self.assertRaises(DatabricksError):
            self.client.jobs.create(name="x", tasks=[task("/n")], run_as=jobs.JobRunAs(user_name="nobody@example.com"))

    def test_compute(self):
        clusters = self.client.clusters
        listed = list(clusters.list())
        self.assertEqual(clusters.get(listed[0].cluster_id).cluster_id, listed[0].cluster_id)
        self.assertTrue(clusters.select_node_type(local_disk=True))
        self.assertTrue(clusters.select_spark_version(long_term_support=True))
        self.assertTrue(list(self.client.cluster_policies.list()))
        self.assertEqual(list(self.client.instance_pools.list()), [])
        # Older releases of the SDK use this path.
        older = self.client.api_client.do("GET", "/api/2.0/clusters/list")["clusters"]
        self.assertEqual([row["cluster_id"] for row in older], [row.cluster_id for row in listed])


if __name__ == "__main__":
    unittest.main()
