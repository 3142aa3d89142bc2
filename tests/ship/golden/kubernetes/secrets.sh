#!/bin/sh
# Makes the Secrets that the pods refer to. Put each value into a file of its name first, readable by you only.
set -eu

kubectl --namespace inferry create secret generic inferry-gateway-secrets \
  --from-file=LEDGER_URL=LEDGER_URL

[ -f INFERRY_ENGINE_KEY ] || openssl rand -hex 32 | tr -d '\n' > INFERRY_ENGINE_KEY
kubectl --namespace inferry create secret generic chat-secrets \
  --from-file=INFERRY_ENGINE_KEY=INFERRY_ENGINE_KEY \
  --from-file=HF_TOKEN=HF_TOKEN

# A key of scope read-only: kubectl exec deploy/... -- inferry keys create --tenant prometheus --scope read-only
kubectl --namespace inferry create secret generic inferry-gateway-metrics \
  --from-file=key=key
