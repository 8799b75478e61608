"""Parts of ``bringup demo``: its scenario, its Placement and its scheduler."""
