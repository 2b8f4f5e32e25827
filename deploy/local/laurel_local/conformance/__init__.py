"""Routes for other people's conformance suites. `laurel up --conformance --tls` mounts them; nothing else imports this.

They issue whatever conforms to the data model, to anybody, with a key that lives as long as the process: nothing that
production may do.
"""
