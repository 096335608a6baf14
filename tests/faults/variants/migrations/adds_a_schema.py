"""A schema with everything that an app may use in one."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"

SCHEMA = f"billing_{revision}"

STATEMENTS = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE SCHEMA billing;
CREATE TYPE billing.state AS ENUM ('open', 'paid');
CREATE TABLE billing.bills (id serial, number bigint GENERATED ALWAYS AS IDENTITY, state billing.state);
CREATE TABLE billing.parts (id int) PARTITION BY RANGE (id);
CREATE TABLE billing.parts_1 PARTITION OF billing.parts FOR VALUES FROM (0) TO (10);
CREATE SEQUENCE billing.numbers;
CREATE VIEW billing.open AS SELECT id FROM billing.bills WHERE state = 'open';
CREATE MATERIALIZED VIEW billing.totals AS SELECT count(*) AS bills FROM billing.bills;
CREATE FUNCTION billing.two() RETURNS int LANGUAGE sql AS 'SELECT 2';
CREATE FUNCTION billing.refresh() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = ''
  AS 'REFRESH MATERIALIZED VIEW billing.totals';
CREATE TABLE billing.audit (text text);
REVOKE UPDATE, DELETE, TRUNCATE ON billing.audit FROM logbook;
CREATE TABLE billing.tenants (tenant text);
ALTER TABLE billing.tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON billing.tenants USING (tenant = current_setting('app.tenant'))
"""


def upgrade() -> None:
    for statement in STATEMENTS.replace("billing", SCHEMA).split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    op.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
