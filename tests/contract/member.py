"""A group member in a process of its own, for tests that kill or stop it.

usage: member.py URL GROUP TOPIC MEMBER_ID MODE; writes a JSON object per line to stdout

crash    polls once with success and ends its process before the commit
hold     polls once with success, then waits for a line on stdin and commits: says how that ended
consume  polls and commits until it is killed
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from laurel.bus import BusUnavailable, Message, PartitionsLost, TopicPartition, connect


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def places(messages: list[Message]) -> list[list[int]]:
    return [[m.partition, m.offset] for m in messages]


def next_offsets(messages: list[Message]) -> dict[TopicPartition, int]:
    return {TopicPartition(m.topic, m.partition): m.offset + 1 for m in messages}


async def main(url: str, group: str, topic: str, member_id: str, mode: str) -> None:
    bus = connect(url, request_timeout=15, session_timeout=6, rebalance_timeout=60)
    async with bus.consumer(group=group, topics=[topic], member_id=member_id) as consumer:
        while True:
            try:
                messages = await consumer.poll(100, 1.0)
            except BusUnavailable:
                continue
            if not messages:
                continue
            say(polled=places(messages), owned=len(consumer.assignment()))
            if mode == "crash":
                os._exit(9)
            if mode == "hold":
                await asyncio.to_thread(sys.stdin.readline)
            try:
                await consumer.commit(next_offsets(messages))
            except PartitionsLost:
                say(commit="lost")
            else:
                say(commit="stored", committed=places(messages))
            if mode == "hold":
                os._exit(0)


asyncio.run(main(*sys.argv[1:]))
