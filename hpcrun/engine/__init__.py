"""The rooms that hold both memory and reach: submit, refresh, wait, cancel, bring home."""
