"""The middle: the life of one task.

tables      states, events and actions, as a table; pure
decide      collected facts -> how it ended; pure
patience    when a guest counts as lost; pure
accounting  what the guest and the host count, as one progress report; pure
loop        gather events, take a step, perform the actions
"""
