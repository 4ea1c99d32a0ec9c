"""What looks like a secret in a file, and what only reads like one."""

import random
import string

import pytest

from sextant.project.secret_patterns import suspects

_WORD = string.ascii_letters + string.digits


def some(count: int, letters: str = _WORD) -> str:
    return "".join(random.Random(count).choice(letters) for _ in range(count))


SECRETS = {
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
    "an access key of AWS": "AKIA" + some(16, "ABCDEFGHIJ234567"),
    "a token of GitHub": "github_pat_" + some(60),
    "a token of GitLab": "glpat-" + some(20),
    "a token of Slack": "xoxb-1234567890-" + some(12),
    "a webhook of Slack": f"https://hooks.slack.com/services/T{some(8)}/B{some(9)}/{some(24)}",
    "an API key of Google": "AIza" + some(35),
    "an OAuth secret of Google": "GOCSPX-" + some(28),
    "a key of Stripe": "sk_live_" + some(24),
    "a token of npm": "npm_" + some(36),
    "a token of PyPI": "pypi-AgEIcHlwaS5vcmc" + some(60),
    "a key of OpenAI": "sk-proj-" + some(48),
    "a key of Anthropic": "sk-ant-api03-" + some(60),
    "a token of Hugging Face": "hf_" + some(34, string.ascii_letters),
    "a key of SendGrid": f"SG.{some(22)}.{some(43)}",
    "a token of Databricks": "dapi" + some(32, "0123456789abcdef"),
    "a token of DigitalOcean": "dop_v1_" + some(64, "0123456789abcdef"),
    "a token of Vault": "hvs." + some(24),
    "an account key of Azure": f"AccountName=x;AccountKey={some(86)}==",
    "a token of Sextant": "sxt_" + some(43),
    "a password in an address": f"postgresql://shop:{some(9)}@db.internal:5432/shop",
}


@pytest.mark.parametrize("what", SECRETS)
def test_each_form(what: str) -> None:
    """If this fails, a key of that vendor is uploaded."""
    secret = SECRETS[what]
    text = f'# settings\n\nKEY = "{secret}"  # of prod\n'
    assert [(one.line, one.what) for one in suspects(text.encode())] == [(3, what)]
    long = b"x" * 100_000 + b" " + secret.encode() + b" " + b"y" * 100_000
    assert [one.what for one in suspects(long)] == [what], "in a file of one line"
    assert suspects(f'KEY = "{secret}"  # not a secret\n'.encode()) == []


HARMLESS = [
    'digest = "' + some(64, "0123456789abcdef") + '"',
    'DATABASE = "postgresql://shop:{password}@db.internal/shop"',
    'DATABASE = f"postgresql://shop:$PASSWORD@db.internal/shop"',
    'DATABASE = "postgresql://shop:shop@localhost:5432/shop"',
    'DATABASE = "postgresql://shop:***@db.internal/shop"',
    'url = "https://example.com/a:b@c"',
    'sx.secret("GITHUB_TOKEN")',
    'prefix = "ghp_"',
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----",
    'name = "AKIA"',
    'risk = "sk-learn-is-a-library-with-a-long-name"',
    "npm_config_registry = 1",
    "hf_" + "a" * 12,
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_reads_like_one(text: str) -> None:
    """If this fails, a project without secrets cannot be uploaded."""
    assert suspects(text.encode()) == []


def test_the_line_is_the_one(tmp_path: object) -> None:
    """If this fails, who is told looks at another line."""
    text = "\n" * 41 + SECRETS["a token of npm"] + "\n\n" + SECRETS["a key of Stripe"]
    assert [one.line for one in suspects(text.encode())] == [42, 44]
