"""Creates a topic, or prints all its messages, one JSON object a line: topic.py BROKERS create|read TOPIC [PARTITIONS]."""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TIME_OUT = 20


def create(brokers, topic, partitions):
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(TIME_OUT)


def read(brokers, topic):
    """Each partition, up to its end."""
    settings = {"bootstrap.servers": brokers, "group.id": "tests", "enable.auto.commit": False}
    # Not get_watermark_offsets: Tansu takes the last batch's first offset for the end.
    consumer = Consumer(settings | {"enable.partition.eof": True})
    unread = set(consumer.list_topics(topic, TIME_OUT).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
    while unread:
        message = consumer.poll(TIME_OUT)
        if message is None:
            sys.exit(f"no message within {TIME_OUT} s; the partitions {unread} are not read")
        if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
            unread.discard(message.partition())
        elif message.error():
            raise KafkaException(message.error())
        else:
            print(json.dumps(fields(message)))
    consumer.close()


def fields(message):
    return {
        "partition": message.partition(),
        "key": message.key().decode(),
        "value": message.value().decode(),
        "headers": {name: value.decode() for name, value in message.headers() or []},
    }


if __name__ == "__main__":
    _, brokers, action, *rest = sys.argv
    {"create": create, "read": read}[action](brokers, *rest)
