"""Neighbour 3: the guest, known only by its files in the share.

folders   make the share's folders anew
stage     put program, inputs, task and command where the guest finds them
command   tell the guest what state it should be in
watch     notice what the guest writes
collect   bring the results out
numbered  its trickles, uploads and saved states
way       how to deal with one kind of guest; plain is the other kind, without our agent, and triggers its trickles
"""
