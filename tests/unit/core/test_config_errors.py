"""What a wrong deployment file is told: file, line, key, value and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.config_file import parse_text
from inferry.core.deployment import ENGINE_TYPES
from inferry.core.errors import ConfigError

CHAT = "deployments:\n  chat:\n    engine: simulated\n"
ENGINES = ", ".join(sorted(ENGINE_TYPES))
OUTSIDE = "deployments:\n  out:\n    engine: openai\n    model: m\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_text(text, Path("inferry.yaml"), {})
    return caught.value.message.splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # unknown keys
        (CHAT + "gatway: {}\n", "4: gatway: there is no such key. Did you mean 'gateway'?"),
        (
            CHAT + "colour: red\n",
            "4: colour: there is no such key. Known: admin, backup, deployments, facts, gateway, host, ledger, names, runtime, tenants.",
        ),
        (
            CHAT + "    replica: 2\n",
            "4: deployments.chat.replica: there is no such key. Did you mean 'replicas'?",
        ),
        (
            CHAT + "    routing: {polcy: round_robin}\n",
            "4: deployments.chat.routing.polcy: there is no such key. Did you mean 'policy'?",
        ),
        (
            CHAT + "    health:\n      interval: 1\n",
            "5: deployments.chat.health.interval: there is no such key. Did you mean 'interval_s'?",
        ),
        (
            CHAT + "    restart: {crash_max: 1}\n",
            "4: deployments.chat.restart.crash_max: there is no such key. Did you mean 'crashes_max'?",
        ),
        (
            CHAT + "    threads: 4\n",
            "4: deployments.chat.threads: there is no such key. "
            "'threads' is for engine llamacpp, and this one is 'simulated'.",
        ),
        (
            OUTSIDE + "    endpoints: [http://h/v1]\n    replicas: 2\n",
            "6: deployments.out.replicas: there is no such key. "
            "'replicas' is for engines that Inferry starts, and this one is 'openai'.",
        ),
        # kinds of runtime
        (
            CHAT + "runtime: {kind: moon}\n",
            "4: runtime.kind: 'moon' is not known. One of: kubernetes, local, ray.",
        ),
        (
            CHAT + "runtime: {address: auto}\n",
            "4: runtime.kind is missing: add 'kind:', one of kubernetes, local, ray.",
        ),
        (CHAT + "runtime: {kind: }\n", "4: runtime.kind is empty: one of kubernetes, local, ray is needed."),
        (
            CHAT + "runtime: {kind: ray, adress: h:1}\n",
            "4: runtime.adress: there is no such key. Did you mean 'address'?",
        ),
        (CHAT + "runtime: ray\n", "4: runtime: must be a group of keys, not 'ray'"),
        # keys of engines where no engine is
        (
            CHAT + "names:\n  lb: {split: [{deployment: chat}], aliases: [x]}\n",
            "5: names.lb.aliases: there is no such key. Known: fallbacks, same_model, shadow, split, sticky.",
        ),
        (
            CHAT + "gateway: {auth: keys}\ntenants:\n  chat: {price: {}}\n",
            "6: tenants.chat.price: there is no such key. Known: limits, weight.",
        ),
        (
            CHAT + "gateway:\n  cors: {origins: [https://a.example], threads: 4}\n",
            "5: gateway.cors.threads: there is no such key. Known: credentials, max_age_s, origins.",
        ),
        # missing ones
        ("gateway: {}\n", "1: deployments is missing: add 'deployments:' ('inferry init' writes an example)"),
        (
            "deployments:\n  chat:\n    replicas: 1\n",
            f"2: deployments.chat.engine is missing: add 'engine:', one of {ENGINES}.",
        ),
        (
            "deployments:\n  chat:\n    engine: llamacpp\n",
            "2: deployments.chat.model is missing: add 'model:' and the model to serve",
        ),
        (OUTSIDE, "2: deployments.out.endpoints is missing: add 'endpoints:' [http://HOST:PORT/v1]"),
        # one of several
        (
            "deployments:\n  chat:\n    engine: llama.cpp\n",
            "3: deployments.chat.engine: 'llama.cpp' is not known. Did you mean 'llamacpp'? "
            f"One of: {ENGINES}.",
        ),
        (
            "deployments:\n  chat:\n    engine: xyz\n",
            f"3: deployments.chat.engine: 'xyz' is not known. One of: {ENGINES}.",
        ),
        (
            "deployments:\n  chat:\n    engine: [a]\n",
            f"3: deployments.chat.engine: a list is not known. One of: {ENGINES}.",
        ),
        (
            "deployments:\n  chat:\n    engine:\n",
            f"2: deployments.chat.engine is empty: one of {ENGINES} is needed.",
        ),
        (
            CHAT + "    routing: {policy: round-robin}\n",
            "4: deployments.chat.routing.policy: 'round-robin' is not known. Did you mean 'round_robin'? "
            "One of: gpu_aware, least_connections, peak_ewma, power_of_two, prefix_aware, round_robin, session, "
            "token_load, weighted.",
        ),
        # kinds
        (
            CHAT + "    replicas: two\n",
            "4: deployments.chat.replicas: must be a whole number, not 'two'",
        ),
        (CHAT + "    replicas: 1.5\n", "4: deployments.chat.replicas: must be a whole number, not 1.5"),
        (CHAT + "    replicas: yes\n", "4: deployments.chat.replicas: must be a whole number, not 'true'"),
        (CHAT + "    ttft_ms: off\n", "4: deployments.chat.ttft_ms: must be a number, not 'false'"),
        (CHAT + "    ttft_ms: []\n", "4: deployments.chat.ttft_ms: must be a number, not a list"),
        (CHAT + "    faults: 7\n", "4: deployments.chat.faults: must be true or false, not 7"),
        (CHAT + "    model: 5\n", "4: deployments.chat.model: must be text, not 5"),
        (CHAT + "    model: yes\n", "4: deployments.chat.model: must be text, not true"),
        (CHAT + "    model:\n", "4: deployments.chat.model: must be text, not nothing"),
        (
            CHAT + "    aliases: gpt\n",
            "4: deployments.chat.aliases: must be a list, as in [first, second], not 'gpt'",
        ),
        (
            "deployments:\n  chat: {engine: vllm, model: hf:a/b, version: abc}\n",
            "2: deployments.chat.version: write it as in 0.32.0, not 'abc'",
        ),
        (CHAT + "    routing: fast\n", "4: deployments.chat.routing: must be a group of keys, not 'fast'"),
        (CHAT + "gateway:\n", "4: gateway: must be a group of keys, not nothing"),
        ("deployments: [a]\n", "1: deployments: must be a group of keys, not a list"),
        ("deployments:\n  chat: llamacpp\n", "2: deployments.chat: must be a group of keys, not 'llamacpp'"),
        (
            CHAT + "gateway: {body_max_bytes: lots}\n",
            "4: gateway.body_max_bytes: must be a size such as 32MiB, not 'lots'",
        ),
        (
            CHAT + "gateway: {body_max_bytes: 3 apples}\n",
            "4: gateway.body_max_bytes: must be a size such as 32MiB, not '3 apples'",
        ),
        # bounds
        (CHAT + "    replicas: 0\n", "4: deployments.chat.replicas: must be at least 1, not 0"),
        (CHAT + "    replicas: 257\n", "4: deployments.chat.replicas: must be at most 256, not 257"),
        (
            CHAT + "gateway: {connect_timeout_s: 0}\n",
            "4: gateway.connect_timeout_s: must be more than 0.0, not 0",
        ),
        (CHAT + "    ttft_ms: .nan\n", "4: deployments.chat.ttft_ms: must be at most 600000.0, not nan"),
        (
            CHAT + "gateway: {body_max_bytes: 12}\n",
            "4: gateway.body_max_bytes: must be at least 1024, not 12",
        ),
        (
            "deployments: {}\n",
            "1: deployments is empty: at least 1 is needed. ('inferry init' writes an example)",
        ),
        (OUTSIDE + "    endpoints: []\n", "5: deployments.out.endpoints is empty: at least 1 is needed."),
        (
            CHAT + f"    aliases: [{', '.join(f'a{n}' for n in range(101))}]\n",
            "4: deployments.chat.aliases: is too long: 100 at most",
        ),
        (CHAT + f"    model: {'m' * 501}\n", "4: deployments.chat.model: is too long: 500 at most"),
        # meaning
        (
            CHAT + "    aliases: [ok, not ok]\n",
            "4: deployments.chat.aliases.1: use letters, digits and . / : @ + - _, 200 at most",
        ),
        (
            "deployments:\n  Chat:\n    engine: simulated\n",
            "2: deployments.Chat: 'Chat' can't be a deployment's name: use small letters, digits and . _ - "
            "(63 at most); other names for clients go into 'aliases'",
        ),
        (
            "deployments:\n  a: {engine: simulated}\n  b: {engine: simulated, aliases: [a]}\n",
            "1: 'a' names both 'a' and 'b'",
        ),
        (
            "deployments:\n  a: {engine: llamacpp, model: 'file:m', extra_args: [x]}\n",
            "2: deployments.a: 'extra_args' are for a llama-server of your own: name it in 'binary', or drop them",
        ),
        (
            "deployments:\n  a: {engine: llamacpp, model: tiny.gguf}\n",
            "2: deployments.a.model: 'tiny.gguf' is not a model source. Did you mean 'file:tiny.gguf'? "
            "Use one of: hf:org/name[/file][@revision], file:/path/to/model.gguf, "
            "pypi:distribution[==version]/file, https://host/path/model.gguf[#sha256=64 hex digits]",
        ),
        (
            OUTSIDE + "    endpoints: [http://h/v1, http://h/v1]\n",
            "5: deployments.out.endpoints: an endpoint stands here twice",
        ),
        (
            CHAT + "    routing: {policy: peak_ewma, load_bound: 2}\n",
            "4: deployments.chat.routing: 'load_bound' is for policy session, not for peak_ewma: drop it, or change the policy",
        ),
        (
            CHAT + "    routing: {policy: session, session_by: [cookie]}\n",
            "4: deployments.chat.routing.session_by.0: 'cookie' is not known. Write user, conversation, key or header:NAME",
        ),
        (
            CHAT + "    routing: {policy: session, session_by: [header:Authorization]}\n",
            "4: deployments.chat.routing.session_by.0: 'header:Authorization' is a credential: write key, for the "
            "caller's key",
        ),
        (
            CHAT + "    health: {hand_over_after_s: 20, stuck_after_s: 10}\n",
            "4: deployments.chat.health: 'hand_over_after_s' is 20, which is more than 'stuck_after_s' (10): lower "
            "it, or raise 'stuck_after_s'",
        ),
        (
            CHAT + "    health:\n      breaker: {open_s: 9, open_max_s: 3}\n",
            "5: deployments.chat.health.breaker: 'open_s' is 9, which is more than 'open_max_s' (3): lower it, or "
            "raise 'open_max_s'",
        ),
        (
            CHAT + "    health:\n      outliers: {aside_s: 301, aside_max_s: 300}\n",
            "5: deployments.chat.health.outliers: 'aside_s' is 301, which is more than 'aside_max_s' (300): lower "
            "it, or raise 'aside_max_s'",
        ),
        (
            CHAT + "    restart: {backoff_initial_s: 2, backoff_max_s: 1}\n",
            "4: deployments.chat.restart: 'backoff_initial_s' is 2, which is more than 'backoff_max_s' (1): lower it, "
            "or raise 'backoff_max_s'",
        ),
        (
            OUTSIDE + "    endpoints: [http://h/v1]\n    weights: {http://i/v1: 2}\n",
            "6: deployments.out.weights: a weight is for a URL that is not in 'endpoints': write it as it stands there",
        ),
        (
            CHAT + "gateway: {listen: '8000'}\n",
            "4: gateway.listen: write it as HOST:PORT, for instance 127.0.0.1:8000",
        ),
        (
            CHAT + "gateway:\n  listen: 0.0.0.0:8000\n",
            "4: gateway: '0.0.0.0:8000' can be reached from other machines, and this gateway asks for no keys. "
            "Ask for keys ('auth: keys'), listen on 127.0.0.1, or write 'allow_unauthenticated: true' beside it if that is meant.",
        ),
    ],
)
def test_one_wrong_thing_is_one_clear_line(text: str, message: str) -> None:
    """Each kind of mistake is named with its line, key, value and the way out, and nothing else is said."""
    assert problems(text) == [f"inferry.yaml:{message}"]


def test_all_mistakes_at_once() -> None:
    """A file is repaired in one round: every mistake has its line."""
    text = CHAT + "    replicas: 0\n    speed: 1\ngateway:\n  listen: nowhere\n"
    assert [line.split(": ")[0] for line in problems(text)] == [
        "inferry.yaml:4",
        "inferry.yaml:5",
        "inferry.yaml:7",
    ]


def test_long_values_are_cut() -> None:
    """A value of any length leaves the message readable."""
    [line] = problems(CHAT + f"    replicas: {'x' * 5000}\n")
    assert len(line) < 160


@pytest.mark.parametrize("engine", sorted(ENGINE_TYPES))
def test_every_key_of_every_engine_can_be_misspelt(engine: str) -> None:
    """For each key that an engine knows, a slip leads back to it (or to a nearer one), with the line."""
    for key in ENGINE_TYPES[engine].model_fields:
        slip = f"{key}x"
        text = f"deployments:\n  d:\n    engine: {engine}\n    model: file:m\n    {slip}: 1\n"
        lines = [line for line in problems(text) if slip in line]
        assert lines == [
            f"inferry.yaml:5: deployments.d.{slip}: there is no such key. Did you mean '{key}'?"
        ], lines


@pytest.mark.parametrize(
    "line",
    [
        "engine: openai, model: m, endpoints: ['htp://user:hunter2@h/v1']",
        "engine: openai, model: m, endpoints: ['http://user:hunter2@h:port/v1']",
        "engine: openai, model: m, endpoints: 'http://user:hunter2@h/v1'",
        "engine: llamacpp, model: 'htp://user:hunter2@h/m.gguf'",
        "engine: llamacpp, model: 'http://user:hun/ter2@h?key=hunter2'",
    ],
)
def test_what_a_malformed_url_hides_is_not_told(line: str) -> None:
    """The message about a URL that is none names neither its password nor its query."""
    with pytest.raises(ConfigError) as caught:
        parse_text(f"deployments:\n  a: {{{line}}}\n", Path("inferry.yaml"), {})
    assert caught.value.message.startswith("inferry.yaml:2: deployments.a.")
    assert "ter2" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("gateway: {shared_limits: {redis: 'redis://:hunter2@h/0'}}\n", "gateway.shared_limits.redis"),
        ("ledger: {url: 'postgresql://u:hunter2@h/db'}\n", "ledger.url"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(text: str, key: str) -> None:
    """The message names the key and the way out, and shows nothing of the password."""
    [problem] = problems(CHAT + text)
    assert problem.startswith(f"inferry.yaml:4: {key}: a password in the file would be stored in clear")
    assert "hunter2" not in problem


VLLM = "deployments:\n  chat:\n    engine: vllm\n    model: hf:a/b\n"


@pytest.mark.parametrize(
    ("text", "slip", "meant"),
    [
        (VLLM + "    failover: {stall_s: 1}\n", "deployments.chat.failover.stall_s", "stall_after_s"),
        (
            VLLM + "    speculative: {method: ngram, token: 4}\n",
            "deployments.chat.speculative.token",
            "tokens",
        ),
        (
            VLLM + "    health: {breaker: {failure_max: 4}}\n",
            "deployments.chat.health.breaker.failure_max",
            "failures_max",
        ),
        (
            VLLM + "    filters: [{name: a, classifier: {url: 'http://h/', timeout: 4}}]\n",
            "deployments.chat.filters.0.classifier.timeout",
            "timeout_s",
        ),
        (CHAT + "gateway: {cors: {origins: ['*'], max_age: 1}}\n", "gateway.cors.max_age", "max_age_s"),
        (CHAT + "gateway: {key_limits: {choice_max: 1}}\n", "gateway.key_limits.choice_max", "choices_max"),
        (CHAT + "tenants: {a: {wight: 1}}\n", "tenants.a.wight", "weight"),
        (
            CHAT + "tenants: {a: {limits: {tokens_per_days: 1}}}\n",
            "tenants.a.limits.tokens_per_days",
            "tokens_per_day",
        ),
        (
            CHAT + "names: {n: {split: [{deployment: chat, wait: 1}]}}\n",
            "names.n.split.0.wait",
            "weight",
        ),
    ],
)
def test_keys_of_nested_sections_can_be_misspelt(text: str, slip: str, meant: str) -> None:
    """However deep a key stands, a slip leads back to it."""
    [line] = problems(text)
    assert line.endswith(f": {slip}: there is no such key. Did you mean '{meant}'?")


@pytest.mark.parametrize("section", ["failover", "routing", "health", "queue", "limits", "price", "rollout"])
def test_a_key_unlike_all_others_is_answered_with_those(section: str) -> None:
    """Where nothing is near, the section's own keys are listed."""
    [line] = problems(VLLM + f"    {section}: {{zzzz: 1}}\n")
    assert " there is no such key. Known: " in line
