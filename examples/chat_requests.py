"""With `requests`: a whole answer, then a streamed one, whose server-sent events are read line by line."""

import json
import os

import requests

URL = os.environ.get("INFERRY_URL", "http://127.0.0.1:8000/v1")
ASK = {
    "model": os.environ.get("INFERRY_MODEL", "chat"),
    "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}],
    "temperature": 0,
    "max_tokens": 30,
}

with requests.Session() as session:
    session.headers["Authorization"] = f"Bearer {os.environ.get('INFERRY_KEY', 'not-asked-for')}"

    answer = session.post(f"{URL}/chat/completions", json=ASK, timeout=60)
    answer.raise_for_status()
    print(answer.json()["choices"][0]["message"]["content"])
    print(f"({answer.json()['usage']['completion_tokens']} tokens)")

    with session.post(
        f"{URL}/chat/completions", json={**ASK, "stream": True}, stream=True, timeout=60
    ) as events:
        events.raise_for_status()
        for line in events.iter_lines():
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:  # the engine failed in the middle of its answer
                raise SystemExit(event["error"]["message"])
            for choice in event["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
    print()
