"""The bring-up daemon: who decides, who acts, who remembers, who talks (see :mod:`bringup` for the map)."""
