/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - give an image's network card its address and the way out. */
#define _GNU_SOURCE
#include "hook.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What QEMU and VirtualBox give a machine behind their address translation; asking by DHCP would take longer. */
#define ADDRESS "10.0.2.15"
#define NETMASK "255.255.255.0"
#define GATEWAY "10.0.2.2"

static void set_address(struct sockaddr *to, const char *text)
{
    struct sockaddr_in address;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(to, &address, sizeof address);
}

static struct ifreq request(const char *card)
{
    struct ifreq empty;

    memset(&empty, 0, sizeof empty);
    strncpy(empty.ifr_name, card, sizeof empty.ifr_name - 1);
    return empty;
}

static void switch_on(int with, const char *card)
{
    struct ifreq flags = request(card);

    flags.ifr_flags = IFF_UP;
    if (ioctl(with, SIOCSIFFLAGS, &flags) != 0)
        give_up("switch on", card);
}

static void give_address(int with, const char *card)
{
    struct ifreq address = request(card), mask = request(card);

    set_address(&address.ifr_addr, ADDRESS);
    set_address(&mask.ifr_netmask, NETMASK);
    if (ioctl(with, SIOCSIFADDR, &address) != 0 || ioctl(with, SIOCSIFNETMASK, &mask) != 0)
        give_up("give an address to", card);
}

static void give_way_out(int with)
{
    struct rtentry route;

    memset(&route, 0, sizeof route);
    set_address(&route.rt_dst, "0.0.0.0");
    set_address(&route.rt_genmask, "0.0.0.0");
    set_address(&route.rt_gateway, GATEWAY);
    route.rt_flags = RTF_UP | RTF_GATEWAY;
    if (ioctl(with, SIOCADDRT, &route) != 0)
        give_up("reach", GATEWAY);
}

static int open_socket(void)
{
    int with = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (with < 0)
        give_up("open", "a socket");
    return with;
}

void loopback_up(void)
{
    int with = open_socket();

    switch_on(with, "lo");
    close(with);
}

void network_up(void)
{
    int with = open_socket();

    loopback_up();
    give_address(with, "eth0");
    switch_on(with, "eth0");
    give_way_out(with);
    close(with);
}
