"""The life of the process; besides ``cli`` the only room that reads settings."""
