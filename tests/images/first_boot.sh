#!/bin/sh
# The first-boot script of the image that the tests are run with. A word on the kernel's command line makes it fail.
echo "once more" >>/srv/first-boot
if grep -q fail_at_first_boot /proc/cmdline; then
    printf 'trying\nthe disk is \351 full\n' >&2
    exit 3
fi
