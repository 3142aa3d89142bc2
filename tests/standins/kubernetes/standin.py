"""StandinKubernetes: all of it in one thread, with a handle for tests."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml
from aiohttp import web

from tests.standins.kubernetes import schemas
from tests.standins.kubernetes.api import Api
from tests.standins.kubernetes.controllers import Controllers
from tests.standins.kubernetes.kinds import Kinds, of_definition
from tests.standins.kubernetes.kubelet import Kubelet
from tests.standins.kubernetes.permissions import ADMIN, Tokens
from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.scheduling import node
from tests.standins.kubernetes.selectors import by_labels
from tests.standins.kubernetes.store import Store

T = TypeVar("T")


class StandinKubernetes:
    """A stand-in for a cluster, as a context manager; see the package's words for what it can and lacks."""

    # There once it runs.
    store: Store
    api: Api
    kubelet: Kubelet

    def __init__(
        self,
        *,
        rbac: bool = False,
        pods: str = "statuses",
        folder: Path | None = None,
        images: Mapping[str, list[str]] | None = None,
        nodes: Mapping[str, int] | None = None,
        pace: float = 0.1,
        ready_after_s: float = 0.05,
        tls: bool | None = None,
        port: int = 0,
        crds: bool = True,
        history: int = 20_000,
    ) -> None:
        if pods not in {"processes", "statuses", "none"}:
            raise ValueError(f"pods={pods!r}: give 'processes', 'statuses' or 'none'")
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="standin-kubernetes-"))
        self.tokens = Tokens()
        self._rbac, self._pods, self._images = rbac, pods, images or {}
        self._nodes = {"node-0": 0, "node-1": 0} if nodes is None else nodes
        self._pace, self._ready_after_s = pace, ready_after_s
        # kubectl sends no token without TLS, and roles need to know who asks.
        self._tls = rbac if tls is None else tls
        self._port, self._crds, self._history = port, crds, history
        self._certificate = ""
        self._thread = threading.Thread(target=self._main, name="standin-kubernetes")
        self._running = threading.Event()
        self._failure: BaseException | None = None
        self.url = ""

    # --- its life ---

    def __enter__(self) -> StandinKubernetes:
        self._thread.start()
        self._running.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        assert not self._thread.is_alive()

    def _main(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as failure:  # noqa: BLE001 - told to the test's thread
            self._failure = failure
        finally:
            self._running.set()

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        kinds = Kinds()
        self.store = store = Store(kinds, self._history)
        self.api = Api(store, self.tokens, self._rbac)
        self.kubelet = Kubelet(
            store,
            self.tokens,
            self._pods,
            self.folder / "pods",
            self._images,
            self._pace,
            self._ready_after_s,
        )
        self.api.logs = self.kubelet.read_log
        for name in ("default", "kube-system", "kube-public"):
            self._make("v1", "Namespace", {"metadata": {"name": name}})
        for name, gpus in self._nodes.items():
            store.create(kinds.named("nodes"), node(name, gpus))
        for definition in schemas.known_definitions() if self._crds else ():
            store.create(kinds.named("customresourcedefinitions"), copy.deepcopy(definition))
            for kind in of_definition(definition):
                kinds.add(kind)
        runner, _ = await self.api.serve()
        site = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self._context())
        await site.start()
        host, port = runner.addresses[0][:2]
        self.api.address = f"{host}:{port}"
        self.url = f"{'https' if self._tls else 'http'}://{host}:{port}"
        self.kubelet.certificate = self._certificate
        self.kubelet.cluster_environment = {
            "KUBERNETES_SERVICE_HOST": str(host),
            "KUBERNETES_SERVICE_PORT": str(port),
            "STANDIN_KUBERNETES_URL": self.url,
        }
        tasks = [asyncio.create_task(Controllers(store).run())]
        if self._pods != "none":
            tasks.append(asyncio.create_task(self.kubelet.run()))
        self._running.set()
        await self._stop.wait()
        self.api.watches.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()

    def _make(self, api_version: str, kind: str, thing: Json) -> Json:
        whole = {"apiVersion": api_version, "kind": kind, **thing}
        found = self.store.kinds.of_object(api_version, kind)
        assert found is not None, f"this stand-in knows no {api_version} {kind}"
        if found.namespaced:
            whole["metadata"].setdefault("namespace", "default")
        return self.api.create(found, whole)

    def _context(self) -> ssl.SSLContext | None:
        if not self._tls:
            return None
        import trustme

        authority = trustme.CA()
        self._certificate = authority.cert_pem.bytes().decode()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        return context

    # --- for tests; safe from any thread ---

    def call(self, work: Callable[[], T]) -> T:
        """Do something in the stand-in's own loop, and wait for it."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def kubeconfig(self, path: Path, user: str = ADMIN, namespace: str = "default") -> Path:
        """Write a kubeconfig with a fresh token of that user."""
        cluster: Json = {"server": self.url}
        if self._certificate:
            authority = path.with_suffix(".ca.crt")
            authority.write_text(self._certificate)
            cluster["certificate-authority"] = str(authority)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "standin", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": self.token(user)}}],
            "contexts": [
                {"name": "standin", "context": {"cluster": "standin", "user": "user", "namespace": namespace}}
            ],
            "current-context": "standin",
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def token(self, user: str = ADMIN) -> str:
        """A bearer token; service accounts are system:serviceaccount:NAMESPACE:NAME."""
        return self.tokens.issue(user)

    def service_account_folder(self, path: Path, namespace: str, name: str) -> Path:
        """The files that a pod of that account would find, for a client inside the cluster."""
        path.mkdir(parents=True, exist_ok=True)
        (path / "token").write_text(self.token(f"system:serviceaccount:{namespace}:{name}"))
        (path / "namespace").write_text(namespace)
        (path / "ca.crt").write_text(self._certificate)
        return path

    def create(self, thing: Json) -> Json:
        """Put an object in, judged as any other."""
        thing = copy.deepcopy(thing)
        return self.call(lambda: self._make(thing["apiVersion"], thing["kind"], thing))

    def objects(self, plural: str, namespace: str = "", selector: str = "") -> list[Json]:
        """What is there now (copies); `plural.group` where two groups have that plural."""
        matches = by_labels(selector)
        return self.call(
            lambda: [copy.deepcopy(each) for each in self.store.of(plural, namespace) if matches(each)]
        )

    def object(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        """One object (a copy); None where there is none."""
        found = [each for each in self.objects(plural) if each["metadata"]["name"] == name]
        inside = [each for each in found if each["metadata"].get("namespace", namespace) == namespace]
        return inside[0] if inside else None

    def requests(self) -> list[tuple[str, str, str]]:
        """User, method and path of every request so far."""
        return self.call(lambda: list(self.api.requests))

    def until(self, fact: Callable[[], Any], timeout_s: float = 20) -> Any:
        """Wait for a fact; fails with what is there if it does not come true."""
        deadline = time.monotonic() + timeout_s
        while not (value := fact()):
            if time.monotonic() > deadline:
                pods = [(each["metadata"]["name"], each["status"]) for each in self.objects("pods")]
                raise AssertionError(f"not true in {timeout_s} s; pods: {json.dumps(pods, indent=1)}")
            time.sleep(0.02)
        return value

    # --- faults ---

    def kill_pod(self, name: str, namespace: str = "default", reason: str = "") -> None:
        """Kill the processes of its containers; `reason`, say OOMKilled, is what its status will say."""

        def work() -> None:
            for container in self.kubelet.life_of(namespace, name).containers:
                container.kill(reason)

        self.call(work)

    def evict_pod(
        self, name: str, namespace: str = "default", why: str = "The node was low on memory."
    ) -> None:
        """As a node does that runs out of memory: the pod has failed, reason Evicted."""
        self.call(lambda: self.kubelet.life_of(namespace, name).evict(why))

    def lose_node(self, name: str) -> None:
        """The node and its processes are gone; its pods' Ready is False, and after a while they are Terminating."""
        self.call(lambda: self.kubelet.lose(name))

    def find_node(self, name: str) -> None:
        """The node is back."""
        self.call(lambda: self.kubelet.find(name))

    def break_image(self, text: str, why: str = "failed to pull: not found") -> None:
        """Images with that text in their name can't be pulled from now on."""
        self.call(lambda: self.kubelet.broken.update({text: why}))

    def mend_image(self, text: str) -> None:
        """They can again."""
        self.call(lambda: self.kubelet.broken.pop(text, None))

    def down(self) -> None:
        """The API server answers nobody, and all watches end."""

        def work() -> None:
            self.api.is_down = True
            self.api.watches.cut()

        self.call(work)

    def up(self) -> None:
        """It answers again."""
        self.call(lambda: setattr(self.api, "is_down", False))

    def cut_watches(self) -> None:
        """Every watch ends in the middle."""
        self.call(self.api.watches.cut)

    def slow(self, seconds: float) -> None:
        """Each answer comes that much later."""
        self.call(lambda: setattr(self.api, "slow_s", seconds))

    def forget_history(self) -> None:
        """Watches from an older resourceVersion are answered 410 Gone."""
        self.call(self.store.forget)

    @staticmethod
    def quiet() -> contextlib.AbstractContextManager[None]:
        """For people: until Ctrl-C."""
        return contextlib.suppress(KeyboardInterrupt)
