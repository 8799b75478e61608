"""Clients of Nova's and Placement's services: conductor, scheduler, this host's resource provider."""
