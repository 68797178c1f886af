/* SPDX-License-Identifier: Apache-2.0 */
/* bare_init - the peer of `boot`: a machine that is up, says so on its console and does nothing more. */
#include <unistd.h>

int main(void)
{
    static const char up[] = "bare init is up\n";

    (void)!write(1, up, sizeof up - 1);
    for (;;)
        pause();
}
