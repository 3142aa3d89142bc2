"""One container as a process: started, probed, started again with back-off, ended with grace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from tests.standins.kubernetes.pod_files import NotYet
from tests.standins.kubernetes.refusal import Json
from tests.standins.kubernetes.store import now

if TYPE_CHECKING:
    from tests.standins.kubernetes.pod_life import PodLife

BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 300.0


class Container:
    """One of a pod's containers, over all its starts. `state` is what status shows."""

    def __init__(self, life: PodLife, spec: Json) -> None:
        self.life = life
        self.spec = spec
        self.name: str = spec["name"]
        self.restarts = 0
        self.ready = False
        self.started = False
        self.state: Json = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Json = {}
        self.process: asyncio.subprocess.Process | None = None
        # Why it will have ended, if a test said so.
        self.reason = ""

    def status(self) -> Json:
        """As status.containerStatuses has it."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "",
            "containerID": f"standin://{self.name}",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def _wait_because(self, reason: str, message: str = "") -> None:
        waiting = {"reason": reason}
        if message:
            waiting["message"] = message
        if self.state != {"waiting": waiting}:
            self.state = {"waiting": waiting}
            self.life.report()

    def log_path(self, restart: int) -> Path:
        """Each start has a log of its own."""
        return self.life.files.folder / "logs" / f"{self.name}.{restart}.log"

    async def run(self, once: bool = False) -> int:
        """Until it has ended for good; its last exit code. An init container runs until it succeeds."""
        policy = self.life.pod["spec"].get("restartPolicy", "Always")
        failures = 0
        while True:
            await self._prepared()
            begun = asyncio.get_running_loop().time()
            code = await self._lived()
            again = not self.life.ending and (
                (once and code != 0 and policy != "Never")
                or (not once and (policy == "Always" or (policy == "OnFailure" and code != 0)))
            )
            self.life.report()
            if not again:
                return code
            # Ten minutes without a fall, and the first back-off is short again: with pace, a minute.
            long = asyncio.get_running_loop().time() - begun > 600 * self.life.pace
            failures = 0 if long else failures + 1
            if failures > 1:
                wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (failures - 2)) * self.life.pace
                message = f"back-off restarting failed container={self.name}"
                self._wait_because("CrashLoopBackOff", message)
                await asyncio.sleep(wait_s)
            self.restarts += 1

    async def _prepared(self) -> None:
        """The image is there, and all that its spec names."""
        failures = 0
        while True:
            broken = self.life.broken_image(self.spec["image"])
            try:
                if broken is None:
                    self.life.files.mount(self.spec, self.life.token, self.life.certificate)
                    self.life.files.environment(self.spec)
                    return
                reason, message = ("ErrImagePull" if failures == 0 else "ImagePullBackOff"), broken
            except NotYet as missing:
                reason, message = "CreateContainerConfigError", str(missing)
            self._wait_because(reason, message)
            failures += 1
            await asyncio.sleep(max(0.05, 2 * self.life.pace))

    def _argv(self, environment: dict[str, str]) -> list[str]:
        files = self.life.files
        command = list(self.spec.get("command") or self.life.entrypoint(self.spec["image"]))
        words = [files.expand(word, environment) for word in [*command, *(self.spec.get("args") or [])]]
        return [files.fit(word, self.spec) for word in words]

    def environment(self) -> dict[str, str]:
        """What its process sees: little of this machine's."""
        home = self.life.files.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        own = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "HOME": str(home),
            "HOSTNAME": self.life.pod["metadata"]["name"],
            "STANDIN_SERVICE_ACCOUNT": self.life.files.account_folder(self.spec),
            "STANDIN_POD_FOLDER": str(self.life.files.folder),
            **{word: os.environ[word] for word in ("LANG", "PYTHONPATH", "TMPDIR") if word in os.environ},
            **self.life.cluster_environment,
        }
        return {**own, **self.life.files.environment(self.spec)}

    async def _lived(self) -> int:
        """One start, from fork to exit code."""
        environment = self.environment()
        argv = self._argv(environment)
        log = self.log_path(self.restarts)
        log.parent.mkdir(parents=True, exist_ok=True)
        started = now()
        program = shutil.which(argv[0], path=environment["PATH"]) if argv else None
        if program is None:
            said = f"exec: {argv[0] if argv else '(no command and no entrypoint)'}: not found"
            log.write_text(said + "\n")
            self._ended(128, "StartError", started, said)
            return 128
        # A test that is killed takes its pods along.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        working = self.life.files.working_folder(self.spec)
        with log.open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                *guard,
                program,
                *argv[1:],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                cwd=working,
                start_new_session=True,
            )
        self.state = {"running": {"startedAt": started}}
        self.started = "startupProbe" not in self.spec
        self.ready = self.started and "readinessProbe" not in self.spec
        self.life.report()
        probes = asyncio.create_task(self._probes())
        process = self.process
        try:
            await process.wait()
        finally:
            probes.cancel()
            self._signal(signal.SIGKILL)
            try:
                # Reaped, whatever ended us: nothing of a pod outlives it.
                await asyncio.gather(probes, process.wait(), return_exceptions=True)
            finally:
                # A pod that is deleted tells its end as well, before it goes.
                code = -signal.SIGKILL if process.returncode is None else process.returncode
                shown = code if code >= 0 else 128 - code
                self._ended(shown, self.reason or ("Completed" if code == 0 else "Error"), started)
        return shown

    def _ended(self, code: int, reason: str, started: str, message: str = "") -> None:
        self.process, self.reason = None, ""
        self.ready = self.started = False
        terminated = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now()}
        if message:
            terminated["message"] = message
        self.state = {"terminated": terminated}
        self.last_state = self.state

    def _signal(self, number: int) -> None:
        """To all that it started; they may be gone."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def kill(self, reason: str = "") -> None:
        """At once, as the kernel would."""
        self.reason = reason
        self._signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """preStop, SIGTERM, and SIGKILL when its grace is over."""
        process = self.process
        if process is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                hook = (self.spec.get("lifecycle") or {}).get("preStop")
                if hook:
                    await self._asked(hook, grace_s)
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.terminate()
                await process.wait()
        if process.returncode is None:
            self._signal(signal.SIGKILL)
            await process.wait()

    # --- probes ---

    async def _probes(self) -> None:
        if "startupProbe" in self.spec:
            if not await self._until_started(self.spec["startupProbe"]):
                return
            self.started = True
            self.ready = "readinessProbe" not in self.spec
            self.life.report()
        async with asyncio.TaskGroup() as group:
            if "readinessProbe" in self.spec:
                group.create_task(self._watch(self.spec["readinessProbe"], self._set_ready))
            if "livenessProbe" in self.spec:
                group.create_task(self._watch(self.spec["livenessProbe"], self._set_alive))

    async def _until_started(self, probe: Json) -> bool:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0) * self.life.pace)
        for _ in range(probe.get("failureThreshold", 3)):
            if await self._asked(probe, probe.get("timeoutSeconds", 1)):
                return True
            await asyncio.sleep(probe.get("periodSeconds", 10) * self.life.pace)
        await self._restart()
        return False

    async def _watch(self, probe: Json, tell: object) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0) * self.life.pace)
        good = bad = 0
        while True:
            if await self._asked(probe, probe.get("timeoutSeconds", 1)):
                good, bad = good + 1, 0
                if good >= probe.get("successThreshold", 1):
                    await tell(True)  # type: ignore[operator]
            else:
                good, bad = 0, bad + 1
                if bad >= probe.get("failureThreshold", 3):
                    await tell(False)  # type: ignore[operator]
            await asyncio.sleep(max(0.02, probe.get("periodSeconds", 10) * self.life.pace))

    async def _set_ready(self, ready: bool) -> None:
        if self.ready != ready:
            self.ready = ready
            self.life.report()

    async def _set_alive(self, alive: bool) -> None:
        if not alive:
            await self._restart()

    async def _restart(self) -> None:
        """A probe gave it up: it is ended with its grace, and comes again."""
        grace_s = self.life.pod["spec"].get("terminationGracePeriodSeconds", 30)
        self.ready = False
        self.life.report()
        # Not in the probe's own task, which ends with the process.
        self.life.spawn(self.stop(grace_s))
        await asyncio.sleep(grace_s + 1)

    async def _asked(self, probe: Json, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(probe)
        except (TimeoutError, OSError, aiohttp.ClientError):
            return False

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        for each in self.spec.get("ports") or []:
            if each.get("name") == port:
                return int(each["containerPort"])
        return int(port)

    async def _ask(self, probe: Json) -> bool:
        if "httpGet" in probe:
            get = probe["httpGet"]
            host = get.get("host") or self.life.address
            url = f"{get.get('scheme', 'HTTP').lower()}://{host}:{self._port(get['port'])}{get.get('path', '/')}"
            headers = {each["name"]: each["value"] for each in get.get("httpHeaders") or []}
            async with self.life.http.get(url, headers=headers, ssl=False) as answer:
                return answer.status < 400
        if "exec" in probe:
            environment = self.environment()
            argv = [self.life.files.fit(word, self.spec) for word in probe["exec"]["command"]]
            program = shutil.which(argv[0], path=environment["PATH"]) or argv[0]
            process = await asyncio.create_subprocess_exec(
                program,
                *argv[1:],
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                cwd=str(self.life.files.folder),
            )
            try:
                return await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if "tcpSocket" in probe:
            _, writer = await asyncio.open_connection(
                self.life.address, self._port(probe["tcpSocket"]["port"])
            )
            writer.close()
            return True
        if "sleep" in probe:
            await asyncio.sleep(probe["sleep"]["seconds"])
        return True
