#!/bin/sh
# Makes the Secrets that the pods refer to. Put each value into a file of its name first, readable by you only;
# HF_TOKEN may be empty where the models are public.
set -eu
umask 077
kubectl create namespace inferry --dry-run=client -o yaml | kubectl apply -f -

# With which Prometheus reads metrics: once the gateway runs, make a key there, put it into the file 'key',
# and run this script again:
#   kubectl --namespace inferry exec statefulset/inferry-gateway -- inferry keys create --tenant prometheus --scope read-only --json
[ -f key ] || exit 0
kubectl --namespace inferry create secret generic inferry-gateway-metrics \
  --from-file=key=key \
  --dry-run=client -o yaml | kubectl apply -f -
