"""What `bringup demo` shows: a scenario, the services around it, and a scheduler to tell."""
