"""Rules that the demonstration shows."""

from bringup.daemon.decisions.table_order import EVACUATED_TABLES, OWN_TABLES

RULES = {rule.name for table in (*EVACUATED_TABLES, *OWN_TABLES) for rule in table or ()}
NOT_SHOWN = {
    # A record of another host is not loaded; an instance that came back is decided on by the rules of this host.
    *("not_ours", "evacuated_and_back"),
    # These need an earlier run, or an operator's limits.
    *("quarantined", "destruction_held", "evacuated_and_gone", "resumed_before"),
    *("resumed_on_boot_only", "away_too_long", "resume_not_wanted", "resume_not_known"),
    *("failed_before", "finished_before", "given_up_before", "moving", "clock_not_set"),
    *("live_migrated_away", "resize_has_not_arrived"),
    # With Nova's own records only.
    *("deletion_owes_elsewhere", "unreadable"),
}
SHOWN = RULES - NOT_SHOWN
