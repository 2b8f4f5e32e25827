"""Faults on purpose: what Laurel does when processes, connections and guards fail."""
