"""Laurel's kernel: what two or more services need, and nothing that only one needs.

Read `events.py` and `topics.py` first (what happens, and where it goes), then `service.py` (how events are consumed),
`outbox.py` (how they leave), `database.py` (tenants and transactions), `web.py` (the HTTP edge).
"""
