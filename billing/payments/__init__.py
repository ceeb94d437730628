"""Money for credits, through Stripe.

Others call `checkout` (what is offered, and buying), `auto_top_up` (its settings, and the task's pass) and
`webhooks.receive`. `account` is what a payment does to the books; `stripe_api` the only place that talks to Stripe.
Nothing is imported here: billing/models.py needs the rows.
"""
