"""The formats of CAN logs, one in each module.

Each has a reader, such as `asc_frames`: a function that takes an open binary file at its beginning, a counter and a
function, and yields `Frames`, some thousand at once, in the log's order.

- The counter counts what is left out, by reason: see `Frames.of_rows`, and what each reader adds. "other event" is what
  is no frame, "half a byte" an odd number of hexadecimal digits, "absurd length" also data that is not as long as its
  frame says, "unreadable line" a damaged line that is passed over.
- The function is called with a line for people on what is odd about the log as a whole.
- The reader raises, most often ValueError, where the log is damaged; the frames before that were yielded.

In text logs a line of the usual form is read here; python-can reads every other line, and of what it passes over in
silence the readers keep count.
"""
