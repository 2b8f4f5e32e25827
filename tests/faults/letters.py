"""Dead letters in the midst of deaths: a fault of a handler, which is then mended, and the redrive of what died of it.

The fault is in the database: a trigger, on what three of the consumers write, that refuses rows with a word in them. To
the handler that is an error like any of its own. Whoever asked for the redrive and got no answer asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.cohort import Cohort

# The consumers whose letters are redriven; which rows they write, and where those say what they are about.
TABLES = {
    "issuer.issuance": ("issuer.intents", "passed"),
    "notifier.deliveries": ("notifier.messages", "body"),
    "verifier.index": ("verifier.credentials", "document"),
}

_TRIGGER = "CREATE TRIGGER fault BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail_on_word('{column}')"
FAULT = (
    "CREATE TABLE words (service text, word text, PRIMARY KEY (service, word))",
    """
CREATE FUNCTION fail_on_word() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $body$
DECLARE told bytea;
BEGIN
    EXECUTE format('SELECT ($1).%I', TG_ARGV[0]) INTO told USING NEW;
    IF EXISTS (SELECT FROM words WHERE service = TG_TABLE_SCHEMA
               AND position(convert_to(word, 'UTF8') IN told) > 0) THEN
        RAISE EXCEPTION 'a fault of ours';
    END IF;
    RETURN NEW;
END
$body$
""",
    *(_TRIGGER.format(table=table, column=column) for table, column in TABLES.values()),
)


async def die_and_redrive(cohort: Cohort, group: str, name: str) -> None:
    """One pass dies at this consumer; what made it die is mended, and somebody asks for its redrive."""
    service = group.partition(".")[0]
    learner = f"d{name}-{service}"
    who = f"did:example:{learner}"
    await cohort.laurel.rows("INSERT INTO words VALUES ($1, $2)", service, who)
    cohort.outcomes["passed"] += 1
    credential_id = await cohort.result(learner, score=85, did=who)
    find = f"SELECT id FROM {service}.dead_letters WHERE tenant_id = $1 AND consumer = $2 AND key = $3"
    which = cohort.tenant_id, group, credential_id.encode()

    async def died() -> bool:
        return bool(await cohort.laurel.rows(find, *which))

    await cohort.until(f"dead at {group}", died)
    (letter,) = await cohort.laurel.rows(find, *which)
    await cohort.laurel.rows("DELETE FROM words WHERE service = $1 AND word = $2", service, who)
    await cohort.call("POST", f"/{service}/v1/dead-letters/redrive", 202, json={"ids": [str(letter["id"])]})
    cohort.redriven[service].add(credential_id)


async def check(cohort: Cohort) -> None:
    """Each letter was redriven, once, as somebody asked once; all others wait, and nobody has touched them."""
    for group in TABLES:
        service = group.partition(".")[0]
        letters = await cohort.laurel.rows(
            "SELECT d.key, d.state, d.code, d.attempts, array_agg(a.action || ' ' || a.outcome) AS actions "
            f"FROM {service}.dead_letters d LEFT JOIN {service}.dead_letter_actions a ON a.letter_id = d.id "
            "WHERE d.tenant_id = $1 GROUP BY d.id", cohort.tenant_id,
        )  # fmt: skip
        redriven = {one["key"].decode(): tuple(one)[1:] for one in letters if one["state"] != "waiting"}
        once = ("redriven", "handler_error", 1, ["redrive redriven"])
        assert redriven == dict.fromkeys(cohort.redriven[service], once), f"{service}: {redriven}"
        waiting = [one for one in letters if one["state"] == "waiting"]
        poison = 0 if service == "issuer" else cohort.poison  # the issuer's names no tenant
        assert len(waiting) == poison, f"{service}: {len(waiting)} dead letters wait"
        assert {(one["attempts"], *one["actions"]) for one in waiting} <= {(0, None)}, service
