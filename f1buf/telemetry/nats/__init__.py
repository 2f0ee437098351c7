"""Readings beyond this machine, through streams of a NATS server (JetStream). Needs nats-py and pyarrow: f1buf[nats].

link        the connection to the server
messages    what a message is
publisher   puts readings into a stream
reader      the messages of a stream, each once and in order
server      the server itself, for `f1buf broker`
spool       what a publisher keeps on the disk while the server is away
subscriber  a source of the readings of a stream
"""
