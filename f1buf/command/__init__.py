"""The command ``f1buf``.

`cli` is the entry, `parser` has what all sub-commands share, and each sub-command is a module of its name: `run`,
`replay`, `listen`, `can` (with all options for CAN) and `thresholds`; `game` has what `replay` and `listen` share.
A sub-command makes a `feed`, the `runner` runs the telemetry system with it, the `console` and the `view` show it.
"""
