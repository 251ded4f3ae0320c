"""A TLS 1.3 client of our own (RFC 8446), without I/O.

Python's ``ssl`` hides the ClientHello, the keys and the bytes that it read ahead. A censor counts
ClientHellos, REALITY signs one, and Vision leaves the encryption in the middle; so this package
has all three in the open.

======================  =======================================================================
``client``              the handshake, as a table of states
``connection``          what is there after it: data in and out, tickets, key updates
``choice``              from the name of a fingerprint to a template
``templates``           the form of what a browser says in its ClientHello: data, never code
``captured``            the same of real browsers, written by ``make hellos``
``browsers``            all of them, by name
``template_data``       the same from a bundle
``hello``               builds a ClientHello, with ``extension_bodies``
``greeting``            says it, again if need be, and takes the server's answer
``ech``                 the same, encrypted (RFC 9849), with ``ech_config`` and ``hpke``
``tickets``             resumption
``proofs``              what a server must show: nothing at all, or
``pins``                a certificate that is known beforehand, or
``verify``              a chain of certificates that leads to a trusted authority, or
``reality``             the proof of a REALITY server
``key_shares``          X25519, P-256, P-384, P-521 and X25519MLKEM768
``key_schedule``        from secrets to keys, and the transcript
``suites``              the three cipher suites
``records``             seals and opens the records of one direction
``handshake_records``   messages out of records, and into them
``server_hello``        reads a server's greeting
``messages``            reads what it says afterwards
``compression``         opens compressed certificates (RFC 8879)
``signatures``          checks the server's signature over the handshake
``reader``              takes fields out of a message, and puts them into one
``codes``               the numbers of RFC 8446 and their names
``faults``              how a fault of the peer becomes an alert and one of our errors
======================  =======================================================================

Nothing is imported here: who verifies no chain need not load what does.
Servers that speak only TLS 1.2 are none of its business: it says so, and OpenSSL serves them.
"""
