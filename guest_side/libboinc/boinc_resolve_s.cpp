// SPDX-License-Identifier: Apache-2.0
// boinc_resolve_s.cpp - the one function that writes a string of C++'s library, which BOINC has in libboinc and since 8.2
// in libboinc_api. In an object of its own, so that programs in C need nothing of it.
#include <string>

extern "C" int boinc_resolve_filename(const char *logical, char *physical, int size);

// Weak: a static program that links libboinc too may have it from there.
__attribute__((visibility("default"), weak)) int boinc_resolve_filename_s(const char *logical, std::string &physical)
{
    char name[4096];
    int error = boinc_resolve_filename(logical, name, sizeof name);

    if (error == 0)
        physical = name;
    return error;
}
