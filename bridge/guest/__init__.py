"""Neighbour 3: the guest, known only by its files in the share.

folders   make the share's folders anew
stage     put program, inputs, task and command where the guest finds them
command   tell the guest what state it should be in
watch     notice what the guest writes
collect   bring the results out
"""
