"""How Nova's and Placement's services are spoken to: conductor, scheduler, this host's resource provider."""
