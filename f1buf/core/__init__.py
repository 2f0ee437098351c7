"""What every buffer stands on.

`sync` is the lock and wait protocol; `loop` is how coroutines wait in it; `errors` is what puts and gets raise.
"""
