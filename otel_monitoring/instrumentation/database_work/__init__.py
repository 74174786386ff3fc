"""What a request or a traced operation does with the database: which commands, how often, from which line."""
