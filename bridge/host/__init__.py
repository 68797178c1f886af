"""Programs of this host: a job's tasks without a machine, and what runs beside them.

program    what a task of the job file means here: which file, which words, which streams
said       how far a program is and that it has saved its state, by its files
processes  which processes there are, and which descend from which (Linux)
keeper     the parent of one program: a process of its own that ends with all that descends from it (Linux)
tree       start a program; suspend, count and end it with all that it has started: a protocol
linux      the same with a keeper
macos      the same by looking again and again
windows    the same with a job object
leftovers  end what a killed bridge has left of this job
life       the life of one program, in the words of a machine's
beside     programs that run while others do: daemons and helpers
"""
