"""What is sent of the outbox: e-mail and webhooks, again until it has arrived or it is too late."""
