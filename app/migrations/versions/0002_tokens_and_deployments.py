"""API tokens and deployments."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scope", sa.String(10), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("key", name=op.f("uq_api_tokens_key")),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), nullable=False),
        sa.Column("service_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("token_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("environment", sa.String(50), nullable=False),
        sa.Column("host", sa.String(255), server_default="", nullable=False),
        sa.Column("kind", sa.String(10), server_default="deploy", nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("commit", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("status", sa.String(20), server_default="started", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "phases",
            sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("detail", sa.String(4000), server_default="", nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=True),
        sa.CheckConstraint("kind IN ('deploy', 'rollback')", name=op.f("ck_deployments_kind")),
        sa.CheckConstraint(
            "status IN ('started', 'succeeded', 'failed', 'rolled_back')", name=op.f("ck_deployments_status")
        ),
        sa.CheckConstraint("(status = 'started') = (finished_at IS NULL)", name=op.f("ck_deployments_finished")),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name=op.f("fk_deployments_service_id_services")),
        sa.ForeignKeyConstraint(["token_id"], ["api_tokens.id"], name=op.f("fk_deployments_token_id_api_tokens")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("token_id", "idempotency_key", name="uq_deployments_idempotency_key"),
    )
    # Not CONCURRENTLY, as nobody uses the new table yet.
    op.create_index("ix_deployments_started_at", "deployments", ["started_at", "id"])
    op.create_index("ix_deployments_service", "deployments", ["service_id", "started_at", "id"])
    op.create_index("ix_deployments_environment", "deployments", ["environment", "started_at", "id"])
    running, succeeded = sa.text("status = 'started'"), sa.text("status = 'succeeded'")
    op.create_index(
        "ix_deployments_running",
        "deployments",
        ["started_at", "id"],
        postgresql_where=running,
        sqlite_where=running,
    )
    op.create_index(
        "ix_deployments_live",
        "deployments",
        ["service_id", "environment", "host", "finished_at", "id"],
        postgresql_where=succeeded,
        sqlite_where=succeeded,
    )


def downgrade() -> None:
    op.drop_table("deployments")
    op.drop_table("api_tokens")
