#!/usr/bin/env python3
"""Copies the feed of new orders to a Kafka topic: every event at least once, in order for each customer, none skipped.

The cursor is stored when the broker has acknowledged its whole page. A program that dies repeats a page, and consumers know
an event by its id. Any failure that does not pass by itself ends the program: what started it starts it again, where it was.
Two of these programs at once do no harm; they repeat one another's pages.

Environment:
  FEED_URL                 the feed, such as http://orders/api/v1/events?limit=100
  EVENTS_TOKEN             the token of its readers
  CURSOR_FILE              where the cursor is stored; without the file, the topic gets all orders (again)
  KAFKA_BOOTSTRAP_SERVERS  brokers
  KAFKA_TOPIC              a topic that exists, such as orders.created
  KAFKA_PROPERTIES         optional: a file of further settings of librdkafka, name=value, for TLS and passwords
"""

import json
import os
import re
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from confluent_kafka import Producer

# How long the service may wait for an event before it returns an empty page, and how long a response may take, in seconds.
WAIT = 20
TIME_OUT = 60
# Between requests that get no response, in seconds.
PAUSE = 1

# The CloudEvents binding for Kafka, structured mode.
HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def main():
    feed, token = os.environ["FEED_URL"], os.environ["EVENTS_TOKEN"]
    cursor, topic = Path(os.environ["CURSOR_FILE"]), os.environ["KAFKA_TOPIC"]
    producer = Producer(settings())
    first = f"{feed}{'&' if '?' in feed else '?'}wait={WAIT}"
    place = cursor.read_text() if cursor.exists() else first
    while True:
        events, next_place = read(urljoin(feed, place), token) or ([], first)
        if events:
            publish(producer, topic, events)
        if next_place != place:
            store(cursor, next_place)
            place = next_place


def settings():
    """Of the producer: none of a file's settings takes away that a repeated send neither doubles nor reorders messages."""
    chosen = {
        # As Java's clients and Debezium choose a partition for a key.
        "partitioner": "murmur2_random",
    }
    if file := os.environ.get("KAFKA_PROPERTIES"):
        lines = (line.strip() for line in Path(file).read_text().splitlines())
        chosen |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return chosen | {
        "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        "acks": "all",
        "enable.idempotence": True,
        # For as long as the broker is away. A message that is given up would let later ones of its customer pass.
        "message.timeout.ms": 0,
    }


def read(url, token):
    """The events of a page, and where the next one is; None to start again. Waits for a service that does not answer."""
    while True:
        try:
            request = Request(url, headers={"Authorization": f"Bearer {token}"})
            with urlopen(request, timeout=TIME_OUT) as answer:
                return json.load(answer), following(answer.headers)
        except HTTPError as error:
            if error.code == 410:
                print("The cursor is of another history: all orders are sent again.", file=sys.stderr)
                return None
            if error.code not in (429, 502, 503, 504):
                sys.exit(f"{url}: {error.code} {error.read().decode(errors='replace')}")
            print(f"{url}: {error.code}", file=sys.stderr)
        except (OSError, HTTPException, ValueError) as error:
            # No connection, or one that broke in the middle of a response.
            print(f"{url}: {error}", file=sys.stderr)
        time.sleep(PAUSE)


def following(fields):
    """Where the next page is."""
    for field in fields.get_all("Link", []):
        if found := re.search(r'<([^>]*)>; rel="next"', field):
            return found[1]
    sys.exit("The answer does not say where the next page is.")


def publish(producer, topic, events):
    """Returns when the broker has acknowledged all events."""
    refused = []

    def delivered(error, message):
        if error:
            refused.append(f"{message.key()}: {error}")

    for event in events:
        value = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        producer.produce(topic, value, event["partitionkey"], headers=HEADERS, on_delivery=delivered)
    producer.flush()
    if refused:
        sys.exit(f"The broker has refused {len(refused)} of {len(events)} events: {refused[0]}")


def store(cursor, place):
    """Replaces the file, also through a loss of power."""
    new = cursor.with_name(cursor.name + ".new")
    with open(new, "w") as file:
        file.write(place)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, cursor)
    folder = os.open(cursor.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


if __name__ == "__main__":
    main()
