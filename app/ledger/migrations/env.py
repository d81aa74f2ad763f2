"""How Alembic reaches the ledger: through the transaction that `app.ledger.schema` opened."""

from alembic import context

from app.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
