from __future__ import annotations

import pytest

from hosts.scratch import PROJECT
from slipway.release import losses

HEAD = "import sqlalchemy as sa\nfrom alembic import op\nrevision = 'b'\ndown_revision = 'a'\n\n"


def said(upgrade: str, before: str = "") -> list[str]:
    body = "\n    ".join(upgrade.splitlines())
    return losses.of(f"{HEAD}{before}\ndef upgrade():\n    {body}\n\ndef downgrade():\n    op.drop_table('users')\n")


@pytest.mark.parametrize(
    "upgrade",
    [
        "op.create_table('orders', sa.Column('id', sa.Integer()))",
        "op.add_column('orders', sa.Column('paid', sa.Boolean()))",
        "op.create_index('ix', 'orders', ['paid'])",
        "op.drop_index('ix')",
        "op.drop_constraint('uq', 'orders')",
        "op.execute('UPDATE orders SET paid = false')",
        "op.execute(sa.text('ALTER TABLE orders ALTER paid DROP DEFAULT'))",
        "op.execute('ALTER TABLE orders DROP CONSTRAINT uq')",
        "pass",
    ],
)
def test_what_only_adds_is_no_loss(upgrade: str) -> None:
    assert said(upgrade) == []


@pytest.mark.parametrize(
    ("upgrade", "words"),
    [
        ("op.drop_table('orders')", "drops the table orders"),
        ("op.drop_column('orders', 'paid')", "drops the column orders.paid"),
        ("with op.batch_alter_table('orders') as batch:\n    batch.drop_column('paid')", "drops the column paid"),
        ("for name in NAMES:\n    op.drop_table(name)", "drops the table of a name that is worked out"),
        ("op.execute('DROP TABLE orders')", "runs DROP TABLE"),
        ("op.execute(sa.text('drop   table orders'))", "runs DROP TABLE"),
        ("op.execute('ALTER TABLE orders DROP COLUMN paid')", "runs ALTER TABLE … DROP"),
        ("op.execute('ALTER TABLE orders DROP paid')", "runs ALTER TABLE … DROP"),
        ("op.execute('TRUNCATE orders')", "runs TRUNCATE"),
        ("op.get_bind().execute(sa.text('DELETE FROM orders'))", "runs DELETE FROM"),
        ("op.execute(f'DROP TABLE {name}')", "runs SQL that is put together when it runs"),
        ("op.execute(STATEMENT)", "runs SQL that is put together when it runs"),
        ("op.execute(orders.delete())", "deletes rows"),
    ],
)
def test_what_deletes_or_cannot_be_told_is_said(upgrade: str, words: str) -> None:
    assert any(found.startswith(words) for found in said(upgrade)), said(upgrade)


def test_a_helper_is_looked_into_and_one_of_another_module_is_not_known() -> None:
    assert said("clean()", "def clean():\n    op.drop_table('orders')\n") == ["drops the table orders"]
    (found,) = said("clean.rows()", "from app import clean\n")
    assert found == "calls clean.rows of app, and what that does cannot be told"


def test_a_file_that_cannot_be_read_is_no_pass() -> None:
    assert losses.of("def upgrade(:") == ["cannot be read"]
    assert losses.of("from x import upgrade") == [
        "has no function upgrade() of its own, so what it does cannot be told"
    ]


def test_the_bundled_apps_migrations_that_only_add_ask_nothing() -> None:
    versions = PROJECT / "app/migrations/versions"
    assert losses.of((versions / "0001_services.py").read_text()) == []
    assert losses.of((versions / "0002_tokens_and_deployments.py").read_text()) == []
