"""Who decides, of several gateways in a cluster: a Lease object, beaten as policy/leader.py says.

The same two calls as the row in the ledger's store (ledger/leader_lease.py), so that a candidacy runs on either. The
Lease's own fields are kept as other programs and people expect them, but for one thing: nobody reads `renewTime` to
judge by it, since that would compare clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from inferry.core.clock import Clock, utc_text
from inferry.core.leader_row import LeaderRow, LeaderWrite
from inferry.policy.leader import LEASE_S
from inferry.runtime.kubernetes.access import Access
from inferry.runtime.kubernetes.errors import ApiAway, ApiRefused

BEAT = "inferry.dev/beat"
ASK_TIMEOUT_S = 4.0
"""Below what a leader trusts itself for: one whose API server hangs has stopped leading when it learns of it."""


class KubernetesLease:
    """Of one name. For threads; raises ApiRefused and ApiAway."""

    def __init__(
        self, access: Access, name: str, clock: Clock, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._access = access
        self._name = name
        self._clock = clock
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{access.namespace}/leases"
        self._versions: dict[LeaderRow, str] = {}
        self._http = httpx.Client(
            base_url=access.url,
            verify=access.tls,
            transport=transport,
            timeout=ASK_TIMEOUT_S,
            trust_env=False,
            headers={"User-Agent": "inferry", "Accept": "application/json"},
        )

    def read(self) -> LeaderRow | None:
        """None: nobody ever led under this name."""
        answer = self._ask("GET", f"{self._path}/{self._name}")
        if answer.status_code == 404:
            return None
        found = self._content(answer)
        spec, metadata = found.get("spec") or {}, found["metadata"]
        beat = (metadata.get("annotations") or {}).get(BEAT, "0")
        row = LeaderRow(
            spec.get("holderIdentity") or "",
            int(spec.get("leaseTransitions") or 0),
            int(beat) if str(beat).isdigit() else 0,
        )
        # The row that is expected by a write stands for this very version of the object.
        self._versions = {row: str(metadata["resourceVersion"])}
        return row

    def write(self, write: LeaderWrite) -> bool:
        """Whether it went through: the API server compares the version, so of several at once, one does."""
        if write.expected is None:
            answer = self._ask("POST", self._path, self._object(write.row, None))
        else:
            version = self._versions.get(write.expected)
            if version is None:
                return False
            answer = self._ask("PUT", f"{self._path}/{self._name}", self._object(write.row, version))
        if answer.status_code in (404, 409):
            return False
        self._versions = {write.row: str(self._content(answer)["metadata"]["resourceVersion"])}
        return True

    def close(self) -> None:
        self._http.close()

    def _object(self, row: LeaderRow, version: str | None) -> Mapping[str, Any]:
        now = f"{utc_text(self._clock.wall_s()).replace(' ', 'T')[:-1]}.000000Z"
        metadata: dict[str, Any] = {
            "name": self._name,
            "namespace": self._access.namespace,
            "labels": {"app.kubernetes.io/part-of": "inferry", "app.kubernetes.io/managed-by": "inferry"},
            "annotations": {BEAT: str(row.beat)},
        }
        if version is not None:
            metadata["resourceVersion"] = version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": row.holder,
                "leaseTransitions": row.term,
                "leaseDurationSeconds": round(LEASE_S),
                "renewTime": now,
            },
        }

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        token = self._access.token()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content = None
        if body is not None:
            headers["Content-Type"], content = "application/json", msgspec.json.encode(body)
        try:
            return self._http.request(method, path, headers=headers, content=content)
        except httpx.HTTPError as error:
            raise ApiAway(
                f"the API server {self._access.url} does not answer: {error or type(error).__name__}"
            ) from error

    def _content(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code == 429 or answer.status_code >= 500:
            raise ApiAway(f"the API server {self._access.url} can't now: HTTP {answer.status_code}")
        try:
            content = msgspec.json.decode(answer.content, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ApiAway(f"{self._access.url} answers, but not as an API server: {error}") from error
        if answer.status_code >= 400:
            said = content.get("message")
            raise ApiRefused(
                answer.status_code,
                str(content.get("reason")),
                f"Kubernetes refuses lease '{self._name}': {said} (HTTP {answer.status_code})",
            )
        return content
