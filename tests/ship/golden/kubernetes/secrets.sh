#!/bin/sh
# Makes the Secrets that the pods refer to. Put each value into a file of its name first, readable by you only;
# HF_TOKEN may be empty where the models are public.
set -eu
umask 077
kubectl create namespace inferry --dry-run=client -o yaml | kubectl apply -f -

kubectl --namespace inferry create secret generic inferry-gateway-secrets \
  --from-file=LEDGER_URL=LEDGER_URL \
  --dry-run=client -o yaml | kubectl apply -f -

[ -f INFERRY_ENGINE_KEY ] || openssl rand -hex 32 | tr -d '\n' > INFERRY_ENGINE_KEY
kubectl --namespace inferry create secret generic chat-secrets \
  --from-file=INFERRY_ENGINE_KEY=INFERRY_ENGINE_KEY \
  --from-file=HF_TOKEN=HF_TOKEN \
  --dry-run=client -o yaml | kubectl apply -f -

# With which Prometheus reads metrics: once the gateway runs, make a key there, put it into the file 'key',
# and run this script again:
#   kubectl --namespace inferry exec deployment/inferry-gateway -- inferry keys create --tenant prometheus --scope read-only --json
[ -f key ] || exit 0
kubectl --namespace inferry create secret generic inferry-gateway-metrics \
  --from-file=key=key \
  --dry-run=client -o yaml | kubectl apply -f -
