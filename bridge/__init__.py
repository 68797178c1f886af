"""The host side of the bridge: three neighbours and a middle.

client/       the BOINC client (to come: shared memory and small files in the slot)
hypervisors/  what runs the machine
guest/        the guest, known only by its files in the share
life/         the middle: small tables of states, and the one loop
job/          the job file
image/        guest images
cli/          the commands that people type

run           put the pieces together for one job
workplace     the job directory: one owner, nothing left behind
trees         delete a folder, whatever somebody left in it
errors        what can go wrong, by meaning
"""
