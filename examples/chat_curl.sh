#!/bin/sh
# With curl alone: the models, a whole answer, then a streamed one. -f lets an error fail the script.
set -eu
url=${INFERRY_URL:-http://127.0.0.1:8000/v1}
model=${INFERRY_MODEL:-chat}

# The key goes through a pipe: the words of a command can be read by every user of the machine.
ask() {
  printf 'header = "Authorization: Bearer %s"\n' "${INFERRY_KEY:-not-asked-for}" |
    curl -sS -f --config - -H 'content-type: application/json' "$@"
}

ask "$url/models"
echo
ask "$url/chat/completions" -d '{
  "model": "'"$model"'", "temperature": 0, "max_tokens": 30,
  "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}]
}'
echo
ask -N "$url/chat/completions" -d '{
  "model": "'"$model"'", "temperature": 0, "max_tokens": 30, "stream": true,
  "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}]
}'
