"""Replicas as pods, against a stand-in for an API server that runs pods as processes: it is not Kubernetes."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from inferry.core.clock import SystemClock
from inferry.core.errors import StartFailed
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.launch import LaunchOrder, LaunchSpec, Needs, Seat
from inferry.policy.leader import Candidacy
from inferry.runtime.kubernetes.access import read_kubeconfig
from inferry.runtime.kubernetes.client import KubernetesClient
from inferry.runtime.kubernetes.lease import KubernetesLease
from inferry.runtime.kubernetes.permissions import RULES
from inferry.runtime.kubernetes.pod_runtime import KubernetesRuntime
from tests.standins.kubernetes import StandinKubernetes

pytestmark = pytest.mark.slow

ROBOT = "system:serviceaccount:default:gateway"
PROGRAM = "import time; print('engine is up', flush=True); time.sleep(600)"
POD = {"containers": [{"name": "engine", "image": "engine:1", "args": ["-c", PROGRAM]}]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StandinKubernetes]:
    """Under exactly the rules that the runtime says it needs."""
    with StandinKubernetes(
        rbac=True, pods="processes", folder=tmp_path / "standin", images={"engine": [sys.executable]}
    ) as standin:
        rules = [
            {"apiGroups": list(r.groups), "resources": list(r.resources), "verbs": list(r.verbs)}
            for r in RULES
        ]
        group = "rbac.authorization.k8s.io"
        standin.create(
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "gateway"}, "rules": rules}
        )
        standin.create(
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "gateway"},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": "gateway"},
                "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": "default"}],
            }
        )
        yield standin


@asynccontextmanager
async def runtime(
    cluster: StandinKubernetes,
    folder: Path,
    pod: dict[str, Any] | None = POD,
    user: str = ROBOT,
    **settings: Any,
) -> AsyncIterator[KubernetesRuntime]:
    """One gateway's; ends with it."""
    wishes = KubernetesSettings(kind="kubernetes", **{"pod_start_timeout_s": 20.0, **settings})
    access = read_kubeconfig(cluster.kubeconfig(folder / "kubeconfig", user=user), wishes)
    made = KubernetesRuntime(
        KubernetesClient(access),
        wishes,
        folder / "logs",
        random.Random(1),
        port=8000,
        pod_spec_of=lambda _: pod,
    )
    try:
        yield made
    finally:
        await made.close()


def order(number: int) -> LaunchOrder:
    def spec_at(seat: Seat) -> LaunchSpec:
        raise AssertionError("what runs in a pod is for its Deployment to say")

    return LaunchOrder(f"chat-{number}", "chat", Needs(), spec_at)


async def seen(fact: Callable[[], object], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not fact():
            await asyncio.sleep(0.02)


async def printed(cluster: StandinKubernetes, folder: Path, pod: str) -> None:
    """Its engine has come so far as to print."""
    wishes = KubernetesSettings(kind="kubernetes")
    administrator = KubernetesClient(read_kubeconfig(cluster.kubeconfig(folder / "reader"), wishes))
    path = administrator.path("v1", "pods", pod, "log")
    async with asyncio.timeout(20):
        while "engine is up" not in await administrator.text(path, {"container": "engine"}):
            await asyncio.sleep(0.05)
    await administrator.close()


def wanted(cluster: StandinKubernetes) -> int:
    found = cluster.object("deployments", "inferry-chat")
    assert found is not None
    return int(found["spec"]["replicas"])


async def test_two_start_at_once_and_one_is_stopped(cluster: StandinKubernetes, tmp_path: Path) -> None:
    """Each start has a pod of its own with an address of its own; a stop takes exactly its pod away."""
    async with runtime(cluster, tmp_path, keep=False) as pods:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(pods.start(order(0)))
            second = group.create_task(pods.start(order(1)))
        one, two = first.result(), second.result()
        assert wanted(cluster) == 2
        assert one.pod != two.pod
        assert one.endpoint.host != two.endpoint.host
        assert one.endpoint.port == 8000
        await pods.stop(one, 1.0)
        assert wanted(cluster) == 1
        assert [each.pod for each in pods.running()] == [two.pod]
        await seen(lambda: [each["metadata"]["name"] for each in cluster.objects("pods")] == [two.pod])
    assert wanted(cluster) == 0


async def test_a_killed_engine_ends_its_handle_and_the_next_start_has_it_back(
    cluster: StandinKubernetes, tmp_path: Path
) -> None:
    """The exit code, the reason and what it printed are there; no second pod is made for it."""
    async with runtime(cluster, tmp_path) as pods:
        handle = await pods.start(order(0))
        ending = asyncio.create_task(handle.ended())
        await printed(cluster, tmp_path, handle.pod)
        assert not ending.done()
        cluster.kill_pod(handle.pod, reason="OOMKilled")
        async with asyncio.timeout(20):
            exit = await ending
            await handle.wait()
        assert exit.code == -9
        assert "engine is up" in handle.log_tail()
        assert "OOMKilled" in handle.log_tail()[-1]
        assert handle.log_path.read_text().splitlines() == list(handle.log_tail())
        again = await pods.start(order(0))
        assert again.pod == handle.pod
        assert again.life != handle.life
        assert wanted(cluster) == 1


async def test_the_next_gateway_goes_on_with_the_pods_that_stay(
    cluster: StandinKubernetes, tmp_path: Path
) -> None:
    """`keep`: neither a polite end nor a hasty one takes a pod, and nothing is loaded twice."""
    async with runtime(cluster, tmp_path) as pods:
        handle = await pods.start(order(0))
        pods.let_go()
        await pods.stop(handle, 5.0)
    assert wanted(cluster) == 1
    async with runtime(cluster, tmp_path) as pods:
        again = await pods.start(order(0))
        assert again.life == handle.life


async def test_it_follows_others(cluster: StandinKubernetes, tmp_path: Path) -> None:
    """An autoscaler's number is told and obeyed: no start and no stop changes it."""
    async with runtime(cluster, tmp_path) as leader:
        await leader.start(order(0))
    told: list[tuple[str, int]] = []
    async with runtime(cluster, tmp_path, scaled_by="others") as pods:
        following = asyncio.create_task(
            pods.follow(["chat"], lambda name, number: told.append((name, number)))
        )
        handle = await pods.start(order(0))
        administrator = KubernetesClient(
            read_kubeconfig(cluster.kubeconfig(tmp_path / "admin"), KubernetesSettings(kind="kubernetes"))
        )
        scale = administrator.path("apps/v1", "deployments", "inferry-chat", "scale")
        await administrator.patch(scale, {"spec": {"replicas": 2}})
        await seen(lambda: told == [("chat", 1), ("chat", 2)])
        other = await pods.start(order(1))
        await pods.stop(other, 1.0)
        assert wanted(cluster) == 2
        assert [each.pod for each in pods.running()] == [handle.pod]
        # One that is stuck is killed all the same; the number is not ours, so its Deployment makes another.
        await pods.stop(handle, 0)
        assert wanted(cluster) == 2
        await seen(lambda: handle.pod not in [each["metadata"]["name"] for each in cluster.objects("pods")])
        await seen(lambda: len(cluster.objects("pods")) == 2)
        following.cancel()
        await administrator.close()


async def test_an_api_server_that_is_away_or_forgetful_takes_no_replica(
    cluster: StandinKubernetes, tmp_path: Path
) -> None:
    """Watches are cut, history is gone, nobody answers for a while: then the truth is known again."""
    async with runtime(cluster, tmp_path) as pods:
        handle = await pods.start(order(0))
        cluster.cut_watches()
        cluster.forget_history()
        cluster.down()
        await asyncio.sleep(1.0)
        assert handle.look() is None
        cluster.up()
        cluster.evict_pod(handle.pod)
        async with asyncio.timeout(40):
            await handle.ended()
        assert "vict" in handle.log_tail()[-1] or "gone" in handle.log_tail()[-1]
        again = await pods.start(order(0))
        assert again.pod != handle.pod


async def test_a_pod_that_does_not_come_says_why(cluster: StandinKubernetes, tmp_path: Path) -> None:
    """An image that can't be pulled is told in words, and is not the end of all tries."""
    cluster.break_image("engine")
    async with runtime(cluster, tmp_path, pod_start_timeout_s=3.0) as pods:
        handle = await pods.start(order(0))
        await handle.wait()
        assert "image can't be pulled" in handle.log_tail()[-1]


async def test_what_no_try_will_mend_is_refused(cluster: StandinKubernetes, tmp_path: Path) -> None:
    """No Role, and no Deployment that anybody has described: an error that says what to do."""
    async with runtime(cluster, tmp_path, user="system:serviceaccount:default:nobody") as pods:
        with pytest.raises(StartFailed, match="forbidden"):
            await pods.start(order(0))
    async with runtime(cluster, tmp_path, pod=None) as pods:
        with pytest.raises(StartFailed, match="inferry render kubernetes"):
            await pods.start(order(0))


def test_one_of_two_leads_and_the_other_takes_over(cluster: StandinKubernetes, tmp_path: Path) -> None:
    """By a Lease object, under the runtime's own rules; one that resigns is followed at once."""
    wishes = KubernetesSettings(kind="kubernetes")
    access = read_kubeconfig(cluster.kubeconfig(tmp_path / "kubeconfig", user=ROBOT), wishes)
    leases = [KubernetesLease(access, "inferry", SystemClock()) for _ in range(2)]
    names = [Candidacy("gateway-a"), Candidacy("gateway-b")]

    def look(who: int, now_s: float) -> None:
        write = names[who].next_write(leases[who].read(), now_s)
        if write is not None:
            if leases[who].write(write):
                names[who].on_written(write, now_s)
            else:
                names[who].on_refused()

    # Both saw that nobody leads: one of the two writes goes through.
    both = [names[who].next_write(leases[who].read(), 0.0) for who in (0, 1)]
    assert [write is not None and lease.write(write) for write, lease in zip(both, leases, strict=True)] == [
        True,
        False,
    ]
    look(0, 1.0)
    look(1, 1.0)
    assert [name.leads(1.5) for name in names] == [True, False]
    found = cluster.object("leases", "inferry")
    assert found is not None
    assert found["spec"]["holderIdentity"] == "gateway-a"
    resignation = names[0].resignation()
    assert resignation is not None
    assert leases[0].write(resignation)
    look(1, 2.0)
    assert [name.leads(2.5) for name in names] == [False, True]
    look(0, 2.2)
    assert names[0].holder == "gateway-b"
    for lease in leases:
        lease.close()
