#!/usr/bin/env bash
# Runs a command as root in a virtual machine with Debian's kernel, under software emulation: for what takes network
# cards of real drivers. The machine sees this one's files read-only and writes to memory; it has no network but its
# cards, of which each pair is joined by a cable.
#
#   boot.sh OUT MODELS COMMAND...     OUT is a folder: what the command prints goes to OUT/log, its status to OUT/status
#   boot.sh /tmp/out "virtio-net-pci e1000e" ip link
#
# The cards of pair n have the MAC addresses 52:54:00:00:0n:01 and 52:54:00:00:0n:02. Takes qemu-system-x86, busybox,
# cpio, kmod and the network, once, for the kernel's package, which is unpacked and not installed.
set -euo pipefail
out=$(realpath -m "$1")
read -ra models <<<"$2"
shift 2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lvs-machine
mkdir -p "$out" "$cache"

# The kernel, and a first file system that mounts this machine's one below a layer of memory.
prepare() {
  local image version root file
  image=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -n 1)
  (cd "$cache" && apt-get download "$image" >/dev/null && dpkg-deb -x ./"$image"_*.deb kernel && rm ./"$image"_*.deb)
  version=${image#linux-image-}
  depmod -b "$cache/kernel" "$version"
  root=$cache/root
  rm -rf "$root"
  mkdir -p "$root"/{bin,modules,new,lower,upper}
  cp "$(command -v busybox)" "$root/bin/busybox"
  for file in virtio_pci 9pnet_virtio 9p overlay; do
    modprobe -d "$cache/kernel" -S "$version" --show-depends "$file" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$root/modules/"
    basename "$file" >>"$root/modules/order"
  done
  cat >"$root/init" <<'I'
#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
while read -r module; do busybox insmod "/modules/$module"; done </modules/order
busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose machine /lower
busybox mount -t tmpfs tmpfs /upper
busybox mkdir /upper/changes /upper/work
busybox mount -t overlay overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work /new
busybox mkdir -p /new/run/out
busybox mount -t tmpfs tmpfs /new/run
busybox mkdir -p /new/run/out
busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 out /new/run/out
for folder in proc sys dev; do busybox mount --move /$folder /new/$folder; done
exec busybox switch_root /new /bin/bash /run/out/start
I
  chmod +x "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc | gzip) >"$cache/first.gz"
  echo "$version" >"$cache/version"
}
[ -s "$cache/version" ] || prepare
version=$(cat "$cache/version")

{
  echo 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root'
  printf 'mkdir -p /lib/modules\nln -sfn %q /lib/modules/%s\n' "$cache/kernel/lib/modules/$version" "$version"
  printf 'ip link set lo up\ncd %q\n' "$PWD"
  printf '%q ' "$@"
  printf '>/run/out/log 2>&1\necho $? >/run/out/status\nsync\necho o >/proc/sysrq-trigger\nsleep 5\n'
} >"$out/start"
rm -f "$out/status" "$out/log"
cards=()
for pair in "${!models[@]}"; do
  for end in 1 2; do
    cards+=(-netdev "hubport,id=p${pair}e$end,hubid=$pair")
    cards+=(-device "${models[$pair]},netdev=p${pair}e$end,mac=52:54:00:00:0$pair:0$end")
  done
done
timeout "${MACHINE_SECONDS:-1500}" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 4G \
  -nographic -no-reboot -net none -kernel "$cache/kernel/boot/vmlinuz-$version" -initrd "$cache/first.gz" \
  -append "console=ttyS0 quiet mitigations=off panic=-1" \
  -virtfs local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$out,mount_tag=out,security_model=none" \
  -device virtio-rng-pci "${cards[@]}" >"$out/console" 2>&1 </dev/null || true
cat "$out/log" 2>/dev/null || { tail -n 20 "$out/console"; exit 1; }
exit "$(cat "$out/status" 2>/dev/null || echo 1)"
