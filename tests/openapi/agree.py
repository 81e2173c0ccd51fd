"""Compares what the sandbox and this program's clients say with dbt's own description of its API.

    python agree.py DESCRIPTIONS EXCHANGES

DESCRIPTIONS is a folder with `dbt-cloud-openapi-v2.yaml` and `dbt-cloud-openapi-v3.yaml`, EXCHANGES a folder with files of one exchange a
line, as the sandbox records them. Each answer is checked, and each request of ours: other clients' requests are theirs to answer for.

The description is generated from dbt's code and not right everywhere. Where something observed speaks against it, `departures.yaml` beside
this file says so, with the observation; a departure that no exchange shows is an error, so that the list stays short.
"""

import json
import pathlib
import re
import sys
import urllib.parse
from collections import Counter

import jsonschema
import yaml

OURS = ("dbtrigger/", "dbtrigger-notebook")

# Refusals of the request's own shape: the suites send some on purpose, to see how they are told. Any other answer says that the shape was
# right, so it is checked.
ABOUT_THE_REQUEST = (400, 405, 415, 422)

# What differs between exchanges that are otherwise the same.
PASSING = ("time", "connection")

# What dbt answers instead of what was asked for; its description has successes only (departures.yaml says where this is from).
REFUSAL = {
    "anyOf": [
        {
            "type": "object",
            "required": ["status", "data"],
            "properties": {
                "status": {
                    "type": "object",
                    "required": ["code", "is_success", "user_message"],
                    "properties": {"is_success": {"const": False}, "user_message": {"type": "string"}},
                },
            },
        },
        {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}},
    ]
}


def strict(schema):
    """OpenAPI 3.0 as JSON Schema, in which an object has no members that it does not declare."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: strict(value) for name, value in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key not in ("description", "example", "default", "title", "nullable")
    }
    if "$ref" in made:
        made = {"$ref": made["$ref"].replace("#/components/schemas/", "#/$defs/")}
    if "properties" in made and "additionalProperties" not in made:
        made["additionalProperties"] = False
    if schema.get("nullable"):
        made = {"anyOf": [{"type": "null"}, made]}
    return made


class Description:
    def __init__(self, path):
        whole = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.components = {name: strict(schema) for name, schema in whole["components"]["schemas"].items()}
        self.operations = []
        for template, item in whole["paths"].items():
            pattern = re.escape(template.rstrip("/")).replace(r"\{remainder\}", ".+")
            pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", pattern) + "/?")
            for method, operation in item.items():
                if method in ("get", "post", "put", "patch", "delete"):
                    self.operations.append((template, method, pattern, operation))
        # A literal segment goes before a placeholder.
        self.operations.sort(key=lambda row: row[0].count("{"))

    def find(self, method, path):
        for _template, known, pattern, operation in self.operations:
            if known == method.lower() and pattern.fullmatch(path):
                return operation
        return None

    def problems(self, schema, value):
        """Pairs of a place in the description, `Component.member`, and what is wrong there."""
        root = {**strict(schema), "$defs": self.components}
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        for error in jsonschema.Draft202012Validator(root, format_checker=checker).iter_errors(value):
            yield from self.told(root, error)

    def told(self, root, error):
        own = error.validator in ("additionalProperties", "required")
        place = self.place(root, error.absolute_schema_path, own)
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            known = error.schema.get("properties", {})
            for name in error.instance:
                if name not in known:
                    yield f"{place}.{name}", "undeclared"
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield f"{place}.{name}", "missing"
        elif error.instance is None:
            yield place, "null"
        else:
            yield place, error.validator

    def place(self, root, path, own):
        at, names, parent = root, [["answer"]], None
        for key in [*path][:-1] + [None] if own else path:
            # The path leaves references out.
            while isinstance(at, dict) and "$ref" in at:
                names.append([at["$ref"].removeprefix("#/$defs/")])
                at = self.components[names[-1][0]]
            if key is None:
                break
            is_name = isinstance(at, dict) and parent == "properties"
            at, parent = at[key], key if not is_name else None
            if is_name:
                names[-1].append(key)
        # A value that does not fit a component is named by the member that it stands in.
        while not own and len(names) > 1 and len(names[-1]) == 1 and len(names[-2]) > 1:
            names.pop()
        return ".".join(names[-1])


def content(of, key="application/json"):
    return of.get("content", {}).get(key, {}).get("schema")


def asked(description, operation, exchange):
    """What is wrong with a request of ours."""
    path = exchange["path"]
    if operation is None:
        # What was asked for in vain is no less wrong.
        if exchange["status"] >= 400:
            yield f"{exchange['method']} {exchange['operation']}", "no such operation"
        return
    if not path.endswith("/") and "/artifacts/" not in path:
        yield path, "no slash at the end"
    declared = {row["name"]: row.get("schema", {}) for row in operation.get("parameters", [])}
    for name, text in urllib.parse.parse_qsl(exchange.get("query") or "", keep_blank_values=True):
        if name not in declared:
            yield f"query {operation['operationId']}.{name}", "undeclared"
        elif declared[name].get("type") == "integer" and not re.fullmatch(r"-?\d+", text):
            yield f"query {operation['operationId']}.{name}", "type"
    body, wanted = exchange.get("body"), content(operation.get("requestBody", {}))
    if wanted is not None:
        for place, what in description.problems(wanted, body):
            yield f"request {place}", what
    elif body is not None:
        yield f"request {operation['operationId']}", "a body where none is described"


def check(descriptions, exchange):
    path, method, status = exchange["path"], exchange["method"], exchange["status"]
    description = descriptions["v3" if path.startswith("/api/v3/") else "v2"]
    operation = description.find(method, path)
    answer = exchange.get("answer")
    if exchange.get("agent", "").startswith(OURS) and status not in ABOUT_THE_REQUEST:
        yield from asked(description, operation, exchange)
    if status >= 400:
        for error in jsonschema.Draft202012Validator(REFUSAL).iter_errors(answer):
            yield "refusal", error.message
        if isinstance(answer, dict) and "status" in answer and answer["status"].get("code") != status:
            yield "refusal", "another code than the status"
        return
    if operation is None:
        yield f"{method} {exchange['operation']}", "no such operation"
        return
    declared = operation["responses"].get(str(status))
    if declared is None:
        yield f"{operation['operationId']} {status}", "status"
        return
    kind = (exchange.get("kind") or "none").split(";")[0]
    if declared.get("content") and kind not in declared["content"]:
        yield f"{operation['operationId']} {status}", f"content type {kind}"
        return
    wanted = content(declared)
    if wanted is not None:
        yield from description.problems(wanted, answer)


def main(descriptions, exchanges):
    here = pathlib.Path(__file__).parent
    rows = yaml.safe_load((here / "departures.yaml").read_text(encoding="utf-8"))
    departures = {(place, row["what"]): 0 for row in rows for place in row["places"]}
    descriptions = {
        version: Description(pathlib.Path(descriptions) / f"dbt-cloud-openapi-{version}.yaml") for version in ("v2", "v3")
    }
    agree = excused = total = 0
    wrong, examples, operations = Counter(), {}, Counter()
    seen = {}
    for file in sorted(pathlib.Path(exchanges).glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            exchange = json.loads(line)
            total += 1
            operations[exchange["operation"]] += 1
            lasting = {name: value for name, value in exchange.items() if name not in PASSING}
            key = json.dumps({**lasting, "path": re.sub(r"\d+", "1", exchange["path"])}, sort_keys=True)
            if key not in seen:
                seen[key] = list(check(descriptions, exchange))
            bad = departs = False
            for problem in seen[key]:
                if problem in departures:
                    departs = True
                    departures[problem] += 1
                else:
                    bad = True
                    wrong[problem] += 1
                    examples.setdefault(problem, line)
            agree += not bad and not departs
            excused += departs and not bad
    print(f"exchanges that agree with dbt's own description: {agree} of {total}, of {len(operations)} operations")
    print(f"exchanges that only departures of departures.yaml excuse: {excused} of {total}")
    for (place, what), count in wrong.most_common():
        print(f"  {place}: {what} ({count} times), first in {examples[place, what][:400]}", file=sys.stderr)
    stale = [f"{place}: {what}" for (place, what), count in departures.items() if count == 0]
    for row in stale:
        print(f"  departures.yaml: no exchange shows {row}", file=sys.stderr)
    return 1 if wrong or stale or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
