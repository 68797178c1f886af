"""The fault campaign: one job over and over, killed, quit and cut off from its disk, and its result must be right.

plan      a seed -> which faults, at which steps; the matrix of them. Pure
job       the job whose right result is known, and its slot
calls     let exactly one call of the bridge fail or be its last (calls.c, preloaded into the bridge alone)
round     one round: start it, do harm, start it again until it ends
attended  a round under the stand-in for the BOINC client, instead
judge     what must hold after each end, and after the last
"""
