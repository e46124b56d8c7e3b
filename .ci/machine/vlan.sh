#!/usr/bin/env bash
# Inside the emulated machine, whose kernel has VLANs: the tests in namespaces that take them.
#
#   vlan.sh FOLDER TESTS     the package's folder, and the program with its tests in namespaces
set -euo pipefail
modprobe -a veth bridge 8021q nf_tables tun
cd "$1"
LVS_REQUIRE_VLAN=1 "$2" --test-threads 1 VLAN
