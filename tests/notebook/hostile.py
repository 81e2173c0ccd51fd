"""Checks that rendered settings change nothing in the notebook except the settings literal.

Reads JSON lines (the template, then one line per value) and prints how many values were harmless.
"""

import ast
import json
import sys

CELL = "# COMMAND ----------"


def commands(text):
    """Returns the lines that Databricks would not read as Python, with either way of splitting lines."""
    return [
        line
        for lines in (text.split("\n"), text.splitlines())
        for line in lines
        if line.lstrip().startswith((CELL, "# MAGIC", "%"))
    ]


def settings_call(tree):
    """Returns the constant of `SETTINGS = json.loads(<constant>)` and blanks it in the tree."""
    found = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["SETTINGS"]
    ]
    (call,) = found
    (constant,) = call.args
    assert isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    text, constant.value, constant.kind = constant.value, "", None
    return text


def shape(text):
    tree = ast.parse(text)
    value = settings_call(tree)
    return ast.dump(tree), value


def main(path):
    harmless = 0
    with open(path, encoding="utf-8") as lines:
        first = json.loads(next(lines))
        cell_shape, cell_commands = shape(first["cell"])[0], commands(first["cell"])
        whole_shape, whole_commands = shape(first["template"])[0], commands(first["template"])
        for line in lines:
            case = json.loads(line)
            found, text = shape(case["cell"])
            good = found == cell_shape and commands(case["cell"]) == cell_commands and json.loads(text) == case["value"]
            if good and case["whole"] is not None:
                found, text = shape(case["whole"])
                good = (
                    found == whole_shape
                    and commands(case["whole"]) == whole_commands
                    and json.loads(text) == case["value"]
                )
            if good:
                harmless += 1
            else:
                print(f"not harmless: {line[:500]}", file=sys.stderr)
    print(harmless)


main(sys.argv[1])
