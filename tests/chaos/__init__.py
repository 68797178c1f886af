"""The fault campaign: one job over and over, killed, quit, cut off from disk and power; its result must be right.

plan      a seed -> which faults, at which steps; the matrix of them. Pure
job       the job whose right result is known, and its slot
calls     let exactly one call of the bridge fail or be its last (calls.c, preloaded into the bridge alone)
power     after a kill, lose what was not durable, as a power cut does (power.c, preloaded likewise, keeps the journal)
clock     tell the bridge another time of day (clock.c, preloaded likewise)
round     one round: start it, do harm, start it again until it ends
attended  a round under the stand-in for the BOINC client, instead
judge     what must hold after each end, and after the last
"""
