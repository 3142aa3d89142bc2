"""With `huggingface_hub`'s InferenceClient: a whole answer, then a streamed one."""

import os

from huggingface_hub import InferenceClient

client = InferenceClient(
    base_url=os.environ.get("INFERRY_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("INFERRY_KEY", "not-asked-for"),
)
ask = {
    "model": os.environ.get("INFERRY_MODEL", "chat"),
    "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}],
    "temperature": 0,
    "max_tokens": 30,
}

answer = client.chat_completion(**ask)
print(answer.choices[0].message.content)
print(f"({answer.usage.completion_tokens} tokens)")

for event in client.chat_completion(**ask, stream=True):
    if event.choices:
        print(event.choices[0].delta.content or "", end="", flush=True)
print()
