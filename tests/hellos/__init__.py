"""ClientHellos of real browsers, captured and compared with ours: ``make hellos``."""
