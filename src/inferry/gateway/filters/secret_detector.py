"""Finds secrets: RE2 candidates by each kind's fixed beginning, accepted by detect-secrets' plugin for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from inferry.gateway.filters.pattern_matcher import PatternMatcher

# (candidate, plugin module, plugin class). Kinds without a fixed beginning (high entropy, `password = ...`) are
# left out: they would hold back nearly every word, and find far too much.
_KINDS: Sequence[tuple[str, str, str]] = (
    (r"\b(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}\b", "aws", "AWSKeyDetector"),
    (r"\bAccountKey=[a-zA-Z0-9+/=]{88}", "azure_storage_key", "AzureStorageKeyDetector"),
    (r"://[A-Za-z0-9._~%+-]{1,64}:[A-Za-z0-9._~%!$&*+,;=-]{1,64}@", "basic_auth", "BasicAuthDetector"),
    (
        r"\b[MNO][a-zA-Z\d_-]{23,25}\.[a-zA-Z\d_-]{6}\.[a-zA-Z\d_-]{27}\b",
        "discord",
        "DiscordBotTokenDetector",
    ),
    (r"\bgh[pousr]_[A-Za-z0-9_]{36}", "github_token", "GitHubTokenDetector"),
    (r"\bgl(?:pat|dt|ft|soat|rt)-[A-Za-z0-9_-]{20,50}\b", "gitlab_token", "GitLabTokenDetector"),
    (r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,90}T3BlbkFJ[A-Za-z0-9_-]{20,90}", "openai", "OpenAIDetector"),
    (r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{70,200}", "pypi_token", "PypiTokenDetector"),
    (r"\bSG\.[a-zA-Z0-9_-]{22}\.[a-zA-Z0-9_-]{43}", "sendgrid", "SendGridDetector"),
    (r"\bxox[abpors]-(?:[0-9]{1,20}-){1,4}[A-Za-z0-9]{1,64}", "slack", "SlackDetector"),
    (r"\bsq0csp-[0-9A-Za-z_-]{43}", "square_oauth", "SquareOAuthDetector"),
    (r"\b[rs]k_live_[0-9a-zA-Z]{24,99}", "stripe", "StripeDetector"),
    (r"\b[0-9]{8,10}:[0-9A-Za-z_-]{35}\b", "telegram_token", "TelegramBotTokenDetector"),
    (r"\b(?:AC|SK)[a-z0-9]{32}\b", "twilio", "TwilioKeyDetector"),
)

_JWT = r"eyJ[A-Za-z0-9_-]{8,400}\.eyJ[A-Za-z0-9_-]{2,900}\.[A-Za-z0-9_-]{0,700}"
_KEY_NAME = r"(?:DSA |EC |OPENSSH |PGP |RSA )?PRIVATE KEY(?: BLOCK)?-----"
_KEY_BODY = r"[A-Za-z0-9+/=\s:,-]{0,1000}" * 4
"""RSA of 4096 bits takes some 3,200 characters."""
_PRIVATE_KEY = rf"-----BEGIN {_KEY_NAME}(?:{_KEY_BODY}-----END {_KEY_NAME})?"


def secret() -> list[PatternMatcher]:
    """Keys and tokens of well-known services, JSON web tokens, private keys, passwords in URLs.

    Raises ImportError without detect-secrets.
    """
    tokens = _accepted_by([_plugin(module, name) for _, module, name in _KINDS])
    return [
        PatternMatcher([pattern for pattern, _, _ in _KINDS], check=tokens),
        PatternMatcher([_JWT], check=_accepted_by([_plugin("jwt", "JwtTokenDetector")]), beginning="eyJ"),
        PatternMatcher(
            [_PRIVATE_KEY],
            check=_accepted_by([_plugin("private_key", "PrivateKeyDetector")]),
            beginning="-----BEGIN ",
        ),
    ]


def _plugin(module: str, name: str) -> Any:
    return getattr(import_module(f"detect_secrets.plugins.{module}"), name)()


def _accepted_by(plugins: Sequence[Any]) -> Callable[[str], int]:
    def check(candidate: str) -> int:
        # Plugins look at a line, and a private key has several.
        line = candidate.partition("\n")[0]
        return len(candidate) if any(_finds(plugin, line) for plugin in plugins) else 0

    return check


def _finds(plugin: Any, line: str) -> bool:
    return next(iter(plugin.analyze_string(line)), None) is not None
