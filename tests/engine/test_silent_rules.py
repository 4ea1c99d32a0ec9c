"""`doctor` asks the rules again about what is recorded."""

from sextant.kernel.nouns import SYSTEM
from sextant.app import environments
from sextant.app import reports
from orders_project import ORDERS
from seen import examined
from sextant.app.past import silent_rules
from sextant.kernel.ports import Write
from sextant.ledger.projections import EnvCreated

RULES = """
sx.policy("runs", when="verb == 'run' && asset.name == 'orders'", then="allow")
sx.policy("rows", when="context.rows > 3 && asset.name == 'orders'", then="allow")
sx.policy("reports", when="verb == 'report'", then="allow")
sx.policy("an operator", when="principal.role == 'operator' && verb == 'run'", then="allow")
sx.policy("backups leave no event", when="verb == 'backup'", then="allow")
sx.policy("a name that is gone", when="asset.name == 'payrol'", then="deny")
sx.policy("no agent runs", when="principal.kind == 'agent'", then="deny")
sx.policy("frozen", when="verb == 'release' && env == 'prod'", then="deny")
"""


def test_a_rule_that_matched_nothing_is_said(shop, running) -> None:
    """A rule that never speaks looks like one that holds."""
    shop.write(ORDERS + RULES)
    with shop.open() as p:
        assert silent_rules(p.core, p.runs.publisher, lambda: p.access)[0] == 0
        assert not [f for f in examined(p) if f["name"].startswith("rule")], "nothing is recorded"
        running(p)
        looked_at, silent = silent_rules(p.core, p.runs.publisher, lambda: p.access)
        assert looked_at > 2
        assert {rule.name for rule in silent} == {
            "reports",
            "a name that is gone",
            "no agent runs",
            "frozen",
        }
        said = {f["name"]: f for f in examined(p)}
        found = said["rule a name that is gone"]
        assert (found["ok"], found["warn"]) == (True, True), "a warning, no error"
        assert f"none of the last {looked_at} recorded actions" in found["found"]
        assert "asset.name == 'payrol'" in found["hint"]
        reports.report(p.core, "dev", "run", "job:loader", by=p.core.authorization.who())
        assert "reports" not in {
            rule.name for rule in silent_rules(p.core, p.runs.publisher, lambda: p.access)[1]
        }


def test_a_deny_that_was_refused_by_has_spoken(shop, running) -> None:
    """What a deny forbids leaves no action, only its refusal."""
    shop.write(ORDERS + RULES)
    with shop.open() as p:
        try:
            running(p, "prod")
        except Exception as error:
            assert "frozen" in str(error)
        assert "frozen" not in {
            rule.name for rule in silent_rules(p.core, p.runs.publisher, lambda: p.access)[1]
        }


def test_a_rule_whose_environment_is_gone_is_said(shop) -> None:
    """The last manifest is taken as long as no file changes; its rules are not judged again."""
    shop.write(ORDERS)
    with shop.open() as p:
        environments.create(p.core, "pr-1", "dev")
    shop.write(ORDERS + "\nsx.policy('aside', when=\"env == 'pr-1'\", then='deny')\n")
    with shop.open() as p:
        assert not [f for f in examined(p) if f["name"] == "rules"]
        p.core.state.commit(
            Write((), (p.core.events.make("env.dropped", "pr-1", EnvCreated("pr-1"), SYSTEM, ""),))
        )
        (found,) = [f for f in examined(p) if f["name"] == "rules"]
        assert not found["ok"]
        assert "`env` with 'pr-1'" in found["found"]
