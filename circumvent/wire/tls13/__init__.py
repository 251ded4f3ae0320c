"""A TLS 1.3 client of our own (RFC 8446), without I/O.

Python's ``ssl`` hides the ClientHello, the keys and the bytes that it read ahead. A censor counts
ClientHellos, REALITY signs one, and Vision leaves the encryption in the middle; so this package
has all three in the open.

===================  ==========================================================================
``codes``            the numbers of RFC 8446 and their names
``faults``           how a fault of the peer becomes an alert and one of our errors
``reader``           takes vectors out of a message, and puts them into one
``templates``        what each browser says in its ClientHello: data, never code
``hello``            builds a ClientHello from a template
``key_shares``       X25519, P-256, P-384 and X25519MLKEM768
``suites``           the three cipher suites
``key_schedule``     from secrets to keys, and the transcript
``messages``         reads what a server says in its handshake
``signatures``       checks the server's signature over the handshake
``verify``           decides whether a chain of certificates is to be trusted
``reality``          the proof of a REALITY server in place of a certificate
``tickets``          resumption
``ech``              Encrypted Client Hello (RFC 9849)
``client``           the handshake, as a table of states
``records``          seals and opens the records of one direction
``connection``       what is there after the handshake
===================  ==========================================================================

Servers that speak only TLS 1.2 are none of its business: it says so, and OpenSSL serves them.
"""
