"""Creates a topic, or prints all its messages, one JSON object a line: topic.py BROKERS create|read TOPIC [PARTITIONS]."""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TIME_OUT = 20


def create(brokers, topic, partitions):
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(TIME_OUT)


def read(brokers, topic):
    """Each partition from its first message to the one that is the last at the beginning."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "tests", "enable.auto.commit": False})
    numbers = consumer.list_topics(topic, TIME_OUT).topics[topic].partitions
    ends = {}
    for number in numbers:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), TIME_OUT)
        if end > first:
            ends[number] = end
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in ends])
    while ends:
        message = consumer.poll(TIME_OUT)
        if message is None:
            sys.exit(f"no message within {TIME_OUT} s; {ends} are not reached")
        if message.error():
            raise KafkaException(message.error())
        fields = {
            "partition": message.partition(),
            "key": message.key().decode(),
            "value": message.value().decode(),
            "headers": {name: value.decode() for name, value in message.headers() or []},
        }
        print(json.dumps(fields))
        if message.offset() + 1 >= ends.get(message.partition(), float("inf")):
            del ends[message.partition()]
            consumer.incremental_unassign([TopicPartition(topic, message.partition())])
    consumer.close()


if __name__ == "__main__":
    _, brokers, action, *rest = sys.argv
    {"create": create, "read": read}[action](brokers, *rest)
