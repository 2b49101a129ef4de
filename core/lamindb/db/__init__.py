"""Tables, migrations and the connection to them; knows nothing of what records do."""
