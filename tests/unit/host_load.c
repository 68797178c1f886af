/* A program of this host that has children of every kind. Each spends so many seconds of CPU time of its own.

   host_load burn S            itself
   host_load forks N S         N children at the same time, waited for
   host_load daemon S          a daemon (setsid, double fork), which writes its number to "daemon" and is not waited for
   host_load short N MS        N children, one after the other, of MS milliseconds
   host_load left N MS         the same, each of them left by its parent at once (double forks)
   host_load bomb N            N processes at a time, which all start others and end, each in a session of its own
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double used(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void burn(double seconds)
{
    while (used() < seconds)
        for (volatile int i = 0; i < 10000; i++)
            ;
}

static pid_t spawn(void)
{
    fflush(NULL);
    return fork();
}

int main(int argc, char **argv)
{
    const char *what = argv[1];
    double seconds = argc > 3 ? atof(argv[3]) : argc > 2 ? atof(argv[2]) : 0;
    int count = argc > 3 ? atoi(argv[2]) : 0;
    if (!strcmp(what, "burn")) {
        burn(seconds);
    } else if (!strcmp(what, "forks")) {
        for (int i = 0; i < count; i++)
            if (spawn() == 0) {
                burn(seconds);
                _exit(0);
            }
        while (wait(NULL) > 0)
            ;
    } else if (!strcmp(what, "daemon")) {
        if (spawn() == 0) {
            setsid();
            if (spawn() == 0) {
                FILE *file = fopen("daemon.tmp", "w");
                fprintf(file, "%d\n", (int)getpid());
                fclose(file);
                rename("daemon.tmp", "daemon");
                burn(seconds);
                rename("daemon", "daemon.done");
                for (;;)
                    pause();
            }
            _exit(0);
        }
        wait(NULL);
        while (access("daemon.done", F_OK))
            usleep(10000);
    } else if (!strcmp(what, "short") || !strcmp(what, "left")) {
        int left = !strcmp(what, "left");
        for (int i = 0; i < count; i++) {
            pid_t child = spawn();
            if (child == 0) {
                if (left && spawn() != 0)
                    _exit(0);
                burn(seconds / 1000);
                _exit(0);
            }
            waitpid(child, NULL, 0);
        }
    } else if (!strcmp(what, "bomb")) {
        for (int i = 0; i < (int)seconds; i++)
            if (spawn() == 0)
                for (;;) { /* each goes on in its child: whoever looks for it finds a parent that has ended */
                    if (spawn() != 0)
                        _exit(0);
                    setsid();
                    if (access("bomb", F_OK))
                        fclose(fopen("bomb", "w"));
                }
        for (;;)
            pause();
    }
    return 0;
}
