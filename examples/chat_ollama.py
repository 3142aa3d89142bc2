"""With the `ollama` package, over Ollama's own API: a whole answer, then a streamed one. No Ollama is needed."""

import os

from ollama import Client

client = Client(
    host=os.environ.get("INFERRY_URL", "http://127.0.0.1:8000/v1").removesuffix("/v1"),
    headers={"Authorization": f"Bearer {os.environ.get('INFERRY_KEY', 'not-asked-for')}"},
)
ask = {
    "model": os.environ.get("INFERRY_MODEL", "chat"),
    "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}],
    "options": {"temperature": 0, "num_predict": 30},
}

answer = client.chat(**ask)
print(answer.message.content)
print(f"({answer.eval_count} tokens)")

for piece in client.chat(**ask, stream=True):
    print(piece.message.content, end="", flush=True)
print()
