"""The dashboard in a real browser, before a live fleet on the real embedded engine.

With INFERRY_SCREENSHOTS=FOLDER, the pictures of docs/ are made: INFERRY_SCREENSHOTS=docs/images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e.inferry_process import Inferry, Up, wait_for
from tests.e2e.test_keys_live import first_key_in, free_port

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(180)]
FILE = """
gateway: {auth: keys}
admin: {listen: "127.0.0.1:ADMIN"}
deployments:
  chat:
    engine: llamacpp
    model: "file:MODEL"
    replicas: 2
    threads: 1
    price: {prompt_per_mtok: 1, completion_per_mtok: 4}
  made-up:
    engine: simulated
    scaling: {min: 1, max: 3, rules: [{metric: queue_depth, above: 50, add: 1}]}
"""
PAGES = ("fleet", "playground", "traffic", "usage", "keys", "scaling", "events")
# Without these, Chromium itself asks its maker's servers for updates.
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Watched:
    """A page, and what it did that it must not."""

    page: Page
    origin: str
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._heard(said.type, said.text, said.location["url"]))
        self.page.on("pageerror", lambda error: self.wrongs.append(f"threw: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def show(self, name: str) -> None:
        """Go to one page."""
        self.page.goto(f"{self.origin}/#/{name}")
        expect(self.page.locator("h1")).to_be_visible()

    def _heard(self, kind: str, text: str, where: str) -> None:
        if kind in ("error", "warning"):
            self.wrongs.append(f"{kind}: {text} {where.removeprefix(self.origin)}")

    def _asked(self, url: str) -> None:
        if not url.startswith((f"{self.origin}/", f"blob:{self.origin}/")):
            self.wrongs.append(f"asked {url}")


@dataclass
class Live:
    """The fleet, and a browser that has signed in."""

    inferry: Inferry
    up: Up
    gateway: str
    admin: str
    key: str
    watched: Watched
    new_page: Callable[[str], Watched]

    @property
    def page(self) -> Page:
        return self.watched.page

    def metrics(self) -> str:
        """The gateway's page for Prometheus."""
        return httpx.get(f"{self.gateway}/metrics", headers={"authorization": f"Bearer {self.key}"}).text


def picture(page: Page, name: str) -> None:
    """Keep it, where somebody wants it."""
    if folder := os.environ.get("INFERRY_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"dashboard-{name}.png")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, sample_model: Path, browser: Browser) -> Iterator[Live]:
    inferry = Inferry(tmp_path_factory.mktemp("dashboard"))
    port = free_port()
    model = inferry.folder / "model.gguf"  # a short name, as pictures show it
    model.symlink_to(sample_model)
    inferry.write(FILE.replace("ADMIN", str(port)).replace("MODEL", str(model)))
    with inferry.up() as up:
        gateway = up.wait_ready()
        admin, key = f"http://127.0.0.1:{port}", first_key_in(up.output())
        contexts: list[BrowserContext] = []

        def new_page(origin: str) -> Watched:
            contexts.append(browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-US"))
            return Watched(contexts[-1].new_page(), origin)

        watched = new_page(admin)
        watched.page.goto(admin)
        watched.page.get_by_label("Key").fill(key)
        watched.page.get_by_role("button", name="Sign in").click()
        yield Live(inferry, up, gateway, admin, key, watched, new_page)
        said = up.output()
        assert "Traceback" not in said
        assert watched.wrongs == []


def test_a_stranger_sees_nothing(live: Live) -> None:
    """Without a key there is only the form; a wrong one is refused in words."""
    stranger = live.new_page(live.admin)
    stranger.page.goto(f"{live.admin}/#/fleet")
    stranger.page.get_by_label("Key").fill("inf-wrong")
    stranger.page.get_by_role("button", name="Sign in").click()
    expect(stranger.page.get_by_role("alert")).to_contain_text("API key")
    assert "chat-0" not in stranger.page.content()
    [refused] = stranger.wrongs
    assert refused.endswith("401 (Unauthorized) /session")


def test_a_key_is_made_and_used(live: Live) -> None:
    """Made on one page, it opens the playground on another; the answer streams, and its figures are told."""
    page = live.page
    live.watched.show("keys")
    page.get_by_label("Tenant").fill("acme")
    page.get_by_label("Requests/min").fill("600")
    page.get_by_role("button", name="Make key").click()
    text = page.locator("#new-key").inner_text()
    assert re.fullmatch(r"inf-\w{61}", text)
    expect(page.locator("tr[data-key]", has_text="acme-1")).to_contain_text("requests_per_minute 600")
    live.watched.show("playground")
    page.get_by_label("Gateway key").fill(text)
    page.get_by_label("Side by side").check()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens at most").fill("40")
    page.get_by_label("Your message").fill("Where is the Eiffel Tower?")
    page.evaluate(
        """() => { window.lengths = []; const words = document.querySelector(".words");
        new MutationObserver(() => window.lengths.push(words.textContent.length)).observe(words,
        {childList: true, subtree: true, characterData: true}); }"""
    )
    page.get_by_role("button", name="Send").click()
    sides = page.locator("[data-figures]")
    for number in (0, 1):
        expect(sides.nth(number)).to_contain_text(
            re.compile(r"TTFT [\d,.]+ ms .* tokens · [\d,.]+ tokens/s"), timeout=30_000
        )
    assert "Paris" in page.locator(".words").first.inner_text()
    lengths = page.evaluate("window.lengths")
    assert len(set(lengths)) > 10, "it came in one piece"
    assert lengths == sorted(lengths)
    picture(page, "playground")


def test_figures_are_the_ledgers_and_the_gateways(live: Live) -> None:
    """The usage page says what `inferry usage` says; the fleet page what /metrics says."""
    page = live.page
    told = json.loads(live.inferry.run("usage", "--json").stdout)
    [row] = [each for each in told["rows"] if each["deployment"] == "chat"]
    assert row["requests"] == 1
    live.watched.show("usage")

    def shown() -> dict[str, str]:
        page.get_by_role("button", name="Refresh").click()
        cells = page.locator("tr[data-usage='acme/chat'] td[data-figure]")
        names = cells.evaluate_all("cells => cells.map((cell) => [cell.dataset.figure, cell.textContent])")
        return dict(names)

    wait_for("the ledger's figures", lambda: shown().get("requests") == "1")
    figures = shown()
    for name in ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens"):
        assert figures[name] == f"{row[name]:,}"
    assert figures["cost"] == row["cost"][: len(figures["cost"])]
    assert float(figures["cost"]) > 0
    picture(page, "usage")
    live.watched.show("fleet")
    completed = sum(
        float(count)
        for count in re.findall(r'inferry_requests_total\{deployment="chat",.*\} (\S+)', live.metrics())
    )
    requests = page.locator("tr[data-replica^='chat-'] td:nth-child(4)")
    wait_for("as /metrics", lambda: sum(map(int, requests.all_inner_texts())) == completed == 1)


def test_a_replica_that_dies_is_seen_to_return(live: Live) -> None:
    """Its row says so within seconds, without a reload, and again when it serves; the event is kept."""
    page = live.page
    live.watched.show("fleet")
    row = page.locator("tr[data-replica='chat-1']")
    expect(row).to_contain_text("ready")
    pid = next(
        replica["pid"]
        for deployment in live.inferry.status()["deployments"]
        for replica in deployment["replicas"]
        if replica["id"] == "chat-1"
    )
    os.kill(pid, signal.SIGKILL)
    expect(row).not_to_contain_text("ready", timeout=10_000)
    expect(row.locator("td:nth-child(9)")).to_have_text("1", timeout=30_000)
    expect(row).to_contain_text("ready", timeout=30_000)
    picture(page, "fleet")
    live.watched.show("events")
    expect(page.locator("tr[data-event]", has_text="SIGKILL").first).to_contain_text("chat-1")
    picture(page, "events")


def test_scaling_by_hand(live: Live) -> None:
    """Asked for in a dialog, refused by nobody, seen in the table; cancelled, nothing happens."""
    page = live.page
    live.watched.show("fleet")
    card = page.locator("section[data-deployment='made-up']")
    rows = card.locator("tr[data-replica]")
    card.get_by_role("button", name="Scale").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(rows).to_have_count(1)
    card.get_by_role("button", name="Scale").click()
    page.get_by_role("dialog").get_by_label("Replicas").fill("2")
    page.get_by_role("dialog").get_by_role("button", name="Do it").click()
    expect(rows).to_have_count(2, timeout=20_000)
    live.watched.show("scaling")
    expect(page.locator("main")).to_contain_text("by hand", timeout=15_000)
    page.get_by_role("button", name="Back to automatic").click()
    expect(page.get_by_role("button", name="Back to automatic")).to_have_count(0, timeout=10_000)


@pytest.mark.parametrize("look", ["light", "dark", "chinese", "phone"])
def test_for_everybody(live: Live, look: str) -> None:
    """axe finds nothing serious on any page, in both themes, both languages and on a phone, where nothing is cut."""
    page = live.page
    live.watched.show("fleet")
    page.get_by_label("Theme").select_option("dark" if look == "dark" else "light")
    if look == "chinese":
        page.get_by_label("Language").select_option("zh")
    page.set_viewport_size(
        {"width": 375, "height": 740} if look == "phone" else {"width": 1280, "height": 860}
    )
    for name in PAGES:
        live.watched.show(name)
        page.wait_for_timeout(400)
        found = [
            f"{name}: {each['id']}: {each['nodes'][0]['html'][:200]}"
            for each in Axe().run(page).response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert found == []
        if look == "phone":
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        if look == "light" and name in ("traffic", "keys", "scaling"):
            picture(page, name)
    if look == "dark":
        live.watched.show("fleet")
        picture(page, "dark")
    if look == "chinese":
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.locator("h1")).to_have_text("日志与事件")
        picture(page, "chinese")
        page.get_by_label("语言").select_option("en")
    page.set_viewport_size({"width": 1280, "height": 860})


def test_signing_out(live: Live) -> None:
    """And back in; what came after the end of a session is refused."""
    page = live.page
    live.watched.show("fleet")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto(f"{live.admin}/#/keys")
    page.reload()
    page.get_by_label("Key").fill(live.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("Keys")


def test_the_command(live: Live) -> None:
    """`inferry dashboard` needs no key: its address is let in, once it is opened, and nobody else."""
    words = [sys.executable, "-m", "inferry", "dashboard", "--no-open"]
    environ = live.inferry.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, cwd=live.inferry.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        address = process.stdout.readline().strip()
        origin = address.partition("/#")[0]
        try:
            assert httpx.get(f"{origin}/status").status_code == 401
            watched = live.new_page(origin)
            watched.page.goto(address)
            expect(watched.page.locator("tr[data-replica='chat-0']")).to_contain_text("ready")
            assert "token" not in watched.page.url
            assert watched.page.evaluate("fetch('endpoints').then((answer) => answer.status)") == 404
            [refused] = watched.wrongs
            assert "404" in refused
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
