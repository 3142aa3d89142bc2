"""With the official `openai` package: a whole answer, then a streamed one."""

import os

from openai import OpenAI

MODEL = os.environ.get("INFERRY_MODEL", "chat")
QUESTION = "Where is the Eiffel Tower?"

client = OpenAI(
    base_url=os.environ.get("INFERRY_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("INFERRY_KEY", "not-asked-for"),
)

answer = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=30
)
print(answer.choices[0].message.content)
print(f"({answer.usage.completion_tokens} tokens)")

stream = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=30, stream=True
)
for event in stream:
    if event.choices:
        print(event.choices[0].delta.content or "", end="", flush=True)
print()
