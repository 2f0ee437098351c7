"""What every buffer stands on: the lock and wait protocol (`sync`), how coroutines wait in it (`loop`), and errors."""
