"""The airspeed-velocity suite: one file a stem, then whole networks, overhead, memory, accuracy."""
