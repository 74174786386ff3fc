"""The status page: one document, and the answers it asks for."""
