"""The middle: the life of a task, and of a job.

tables         states, events and actions, as tables; pure
decide         collected facts -> how it ended; pure
patience       when a guest counts as lost; pure
accounting     what the guest and the host count, as one progress report; pure
earnings       what a job tells its project about the work done; pure
audience       who hears how a job goes
holding        let a machine stand still while there is a reason to
checkpoints    what is known on disk of saved machines, and when the next one is due
program_state  what the program itself has saved, as one whole set or none
restoring      from which state a machine goes on
forwarding     trickles, uploads and what the program saves, each once, and what comes back
saving         take a checkpoint of a machine
loop           the life of a task in the machine: gather events, take a step, perform the actions
sequence       the life of a job: its tasks, one after the other
"""
