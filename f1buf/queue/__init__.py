"""`Queue`, `LifoQueue`, `PriorityQueue` (`queue`); what they do by the standard library's own algorithm (`classic`)."""
