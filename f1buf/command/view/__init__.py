"""The live view of a run on a terminal: each series against its threshold, how the buffer does, the newest alerts.

How it is divided
    `board` keeps what is known of each series; it takes from the ring that the sources offer their readings to.
    `layout` makes a frame of a board and a `Progress`, in exactly the terminal's size: with `lines` or a `table` of
    series, drawn by `series` and `drawing` on a `scale`. A frame keeps nothing and prints nothing. `terminal` draws
    frames over each other on the alternate screen: each covers all of it, and the usual screen is untouched.

What is shown of the series
    Of cars a table, one line each; where there are more of them, each session has its share of the lines. Of one car,
    and of other sensors, a line each, deeper ones where there is room, and where there is too little a table, one
    column a channel. What does not fit is counted.

What it costs
    Frames are made by the one thread that calls `View.draw`, four a second at most, and after one that took t seconds
    there is none for 30 t: one takes 3 ms, and five times as long where all threads want the GIL. A frame is text with
    ready-made styles, which rich turns into escape sequences. A table of 22 cars takes 3.4 ms by that, and 19 ms by
    rich.table.

Names and messages come from anybody: they are never read as markup, and what cannot be printed is replaced.
"""
