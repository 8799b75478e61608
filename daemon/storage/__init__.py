"""What must survive a restart: records, journal, outbox, identity, login."""
