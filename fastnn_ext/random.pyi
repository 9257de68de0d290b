# Registers native ops; there is nothing to call.
