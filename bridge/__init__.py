"""The host side of the bridge: three neighbours and a middle.

client/       the BOINC client: shared memory and small files in the slot
hypervisors/  what runs the machine
host/         programs of this host, without a machine
guest/        the guest, known only by its files in the share
life/         the middle: small tables of states, and the one loop
job/          the job file
image/        guest images
bundle/       what a project ships
cli/          the commands that people type
app           the program that the BOINC client starts

run           put the pieces together for one job
for_client    run it for the client
options       what the client's command line says
home          the record that the results are home
verdict       how it ended, in the client's terms
slots         judge what lies in a slot
workplace     the job directory: one owner, nothing left behind
digest        the SHA-256 of a file
trees         delete a folder, whatever somebody left in it
tail          the end of what a program prints
errors        what can go wrong, by meaning
"""

__version__ = "0.1.0"
