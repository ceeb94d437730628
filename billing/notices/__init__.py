"""What somebody has to be told: the outbox, alerts, and tenants' endpoints for webhooks."""
