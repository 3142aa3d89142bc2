#!/bin/sh
# Makes the Secrets that the pods refer to. Put each value into a file of its name first, readable by you only.
set -eu

# A key of scope read-only: kubectl exec deploy/... -- inferry keys create --tenant prometheus --scope read-only
kubectl --namespace inferry create secret generic inferry-gateway-metrics \
  --from-file=key=key
