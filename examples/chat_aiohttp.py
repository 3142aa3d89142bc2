"""With `aiohttp`: a streamed answer, and then several questions at the same time."""

import asyncio
import json
import os

import aiohttp

MODEL = os.environ.get("INFERRY_MODEL", "chat")
URL = os.environ.get("INFERRY_URL", "http://127.0.0.1:8000/v1") + "/chat/completions"
KEY = os.environ.get("INFERRY_KEY", "not-asked-for")


def ask(question: str, **settings: object) -> dict[str, object]:
    messages = [{"role": "user", "content": question}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 30, **settings}


async def stream(session: aiohttp.ClientSession, question: str) -> None:
    async with session.post(URL, json=ask(question, stream=True)) as answer:
        async for line in answer.content:
            line = line.strip()
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:  # the engine failed in the middle of its answer
                raise SystemExit(event["error"]["message"])
            for choice in event["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
    print()


async def whole(session: aiohttp.ClientSession, question: str) -> str:
    async with session.post(URL, json=ask(question)) as answer:
        return (await answer.json())["choices"][0]["message"]["content"]


async def main() -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:
        await stream(session, "Where is the Eiffel Tower?")
        questions = ["What is the capital of France?", "What is the capital of Italy?"]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(whole(session, question)) for question in questions]
        for question, task in zip(questions, tasks, strict=True):
            print(f"{question} {task.result()}")


asyncio.run(main())
