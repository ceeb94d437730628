from django.db import migrations

WORDS = {
    "nonsense": "malformed_response",
    "our_account": "provider_auth",
    "client_left": "client_disconnected",
}


def renamed(words: dict[str, str]) -> list[str]:
    """The statements that write the new word for the old one wherever an outcome is kept."""
    old = ", ".join(f"'{word}'" for word in words)
    cases = " ".join(f"WHEN '{word}' THEN '{new}'" for word, new in words.items())
    tried = " OR ".join(f"""attempts @> '[{{"outcome": "{word}"}}]'""" for word in words)
    return [
        f"""
        UPDATE billing_usage SET
            error_code = CASE error_code {cases} ELSE error_code END,
            attempts = (
                SELECT coalesce(jsonb_agg(
                    attempt || jsonb_build_object(
                        'outcome', CASE attempt ->> 'outcome' {cases} ELSE attempt ->> 'outcome' END)
                    ORDER BY number), '[]')
                FROM jsonb_array_elements(attempts) WITH ORDINALITY AS each(attempt, number)
            )
        WHERE error_code IN ({old}) OR {tried}
        """,
        # An hour in which two versions of the server ran has both words: their sums become one.
        f"""
        WITH moved AS (DELETE FROM billing_attempthour WHERE outcome IN ({old}) RETURNING *)
        INSERT INTO billing_attempthour AS kept (model, provider, hour, outcome, attempts, milliseconds)
        SELECT model, provider, hour, CASE outcome {cases} END, attempts, milliseconds FROM moved
        ON CONFLICT (hour, model, provider, outcome) DO UPDATE SET
            attempts = kept.attempts + excluded.attempts, milliseconds = kept.milliseconds + excluded.milliseconds
        """,
    ]


class Migration(migrations.Migration):
    """How a call and each of its attempts ended is told in the field's words. Only rows of calls that failed, or were
    answered after a failed attempt, are written again; to find them usage is read once. Stop server processes of the
    version before, which write the old words, and start the new ones after."""

    dependencies = [("billing", "0033_the_endpoint_of_a_call")]

    operations = [migrations.RunSQL(renamed(WORDS), renamed({new: word for word, new in WORDS.items()}))]
