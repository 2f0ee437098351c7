"""Readings beyond this machine, through streams of a NATS server (JetStream). Needs nats-py and pyarrow: f1buf[nats].

messages    what a message is
server      the server itself, for `f1buf broker`
"""
