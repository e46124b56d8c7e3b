#!/usr/bin/env bash
# Builds the program, runs it on an emulated board, and says how much memory it takes.
#
#   examples/cortex-m/run.sh            checked against the limits below
#
# The stack is painted before the program starts, and looked at when it has ended, both from outside.
set -euo pipefail
cd "$(dirname "$0")"
# Bytes of code and constants, and of stack.
most_code=${MOST_CODE:-102400}
most_stack=${MOST_STACK:-6144}
target_dir=${CARGO_TARGET_DIR:-$PWD/../../target/cortex-m}
CARGO_TARGET_DIR=$target_dir cargo build --release
program=$target_dir/thumbv7em-none-eabihf/release/cortex-m-director

size_of() { readelf -SW "$program" | sed 's/^ *\[ *[0-9]*\] *//' | awk -v name="$1" '$1 == name { print $5 }'; }
bytes() { printf '%d' "0x$(size_of "$1")"; }

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
# The stack begins at the end of the memory. Of that so much is painted, more than the program may use.
painted=65536
end=$((0x20000000 + 4 * 1024 * 1024))
start=$((end - painted))
head -c "$painted" /dev/zero | tr '\0' '\245' >"$scratch/paint"

mkfifo "$scratch/orders"
# What the program says comes among what the monitor says.
timeout 120 qemu-system-arm -M mps2-an386 -display none -serial none -monitor stdio \
  -semihosting-config enable=on,target=native -kernel "$program" \
  -device loader,file="$scratch/paint",addr="$start",force-raw=on <"$scratch/orders" >"$scratch/said" &
emulator=$!
exec 3>"$scratch/orders"
for _ in $(seq 600); do
  ! grep -q -e '^all is well' -e '^NOT WELL' -e panicked "$scratch/said" || break
  sleep 0.1
done
printf 'pmemsave %d %d "%s"\nquit\n' "$start" "$painted" "$scratch/stack" >&3
exec 3>&-
wait "$emulator"
sed -n '/^QEMU/d; s/^(qemu) //; p; /^all is well/q' "$scratch/said"
grep -q '^all is well' "$scratch/said"

untouched=$(tr -d '\245' <"$scratch/stack" | wc -c)
[ "$untouched" -gt 0 ] || { echo "the stack was not looked at"; exit 1; }
# The first byte that is not paint, counted from the far end of the stack.
first=$({ cmp "$scratch/paint" "$scratch/stack" || true; } | sed -n 's/.*\(byte\|char\) \([0-9]*\),.*/\2/p')
stack=$((painted - first + 1))
code=$(($(bytes .text) + $(bytes .rodata)))
printf '.text %d, .rodata %d: %d of %d bytes\n' "$(bytes .text)" "$(bytes .rodata)" "$code" "$most_code"
printf '.data %d, .bss %d bytes\n' "$(bytes .data)" "$(bytes .bss)"
printf 'stack: %d of %d bytes\n' "$stack" "$most_stack"
((code <= most_code && stack <= most_stack && $(bytes .data) == 0))
