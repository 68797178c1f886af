"""Neighbour 1: the BOINC client, known by a piece of shared memory and a few small files in the slot.

init_data  what the client says about the job, read by tag; pure
app_ipc    the eight message channels and what is said in them; pure
rhythm     when the client will look into a channel next; pure
shmem      map the shared memory, wherever this client keeps it
slot       soft links, the lock, the finish file, the temporary exit
link       the conversation while the job runs
"""
