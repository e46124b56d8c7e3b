#!/usr/bin/env bash
# Inside the emulated machine: a director on a network card of each driver, by each device and method, with real TCP
# and UDP from clients and servers at the other end of the cable.
#
#   drivers.sh DIRECTOR MODEL...     the program, and the models of the card pairs in their order
#
# Prints a row for each combination; the status is 1 if one has failed.
set -uo pipefail
director=$1
shift
models=("$@")
work=$(mktemp -d)
failed=0
vip=192.0.2.100

# The far end of the cable is a bridge in a namespace, with a client and two servers.
world() {
  local card=$1 name
  ip netns add world
  ip link set "$card" netns world
  ip -n world link add br0 type bridge
  ip -n world link set "$card" master br0 up
  ip -n world link set br0 up
  for name in client rs1 rs2; do
    ip netns add "$name"
    ip -n world link add "$name" type veth peer name eth0 netns "$name"
    ip -n world link set "$name" master br0 up
    ip -n "$name" link set lo up
    ip -n "$name" link set eth0 up
  done
  ip -n client addr add 192.0.2.7/24 dev eth0
  ip -n rs1 addr add 10.0.1.11/24 dev eth0
  ip -n rs2 addr add 10.0.1.12/24 dev eth0
}

# What servers need for a method, as LVS asks for it.
prepare() {
  local method=$1 name
  for name in rs1 rs2; do
    ip -n "$name" route del default 2>/dev/null
    ip -n "$name" route del 192.0.2.0/24 2>/dev/null
    ip -n "$name" addr del $vip/32 dev lo 2>/dev/null
    ip netns exec "$name" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 \
      net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0
    if [ "$method" = nat ]; then
      ip -n "$name" route add default via 10.0.1.254
    else
      ip -n "$name" addr add $vip/32 dev lo
      ip -n "$name" route add 192.0.2.0/24 dev eth0
    fi
    if [ "$method" = tun ]; then
      ip netns exec "$name" modprobe ipip
      ip -n "$name" link set tunl0 up
      ip netns exec "$name" sysctl -qw net.ipv4.conf.tunl0.rp_filter=0
    fi
  done
}

# An HTTP server with a large document, and an echo by UDP, at every address of the node.
serve() {
  local name=$1
  ip netns exec "$name" python3 - "$name" <<'P' &
import http.server, socket, sys, threading
name, content = sys.argv[1].encode(), bytes(range(256)) * 4096
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = content if self.path == "/large" else name
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
def udp(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((address, 80))
    while True:
        data, peer = s.recvfrom(65536); s.sendto(name + b" " + data, peer)
own = {"rs1": "10.0.1.11", "rs2": "10.0.1.12"}[sys.argv[1]]
threading.Thread(target=udp, args=(own,), daemon=True).start()
def vip():
    while True:
        try: udp("192.0.2.100")
        except OSError: import time; time.sleep(0.2)
threading.Thread(target=vip, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 80), Handler).serve_forever()
P
}

# What the client sees: both servers by TCP and UDP, a megabyte byte for byte, datagrams in fragments.
ask() {
  ip netns exec client timeout 120 python3 - <<'P'
import socket, urllib.request
V = "192.0.2.100"
names = {urllib.request.urlopen("http://%s/" % V, timeout=20).read() for _ in range(6)}
assert names == {b"rs1", b"rs2"}, names
for _ in range(2):
    body = urllib.request.urlopen("http://%s/large" % V, timeout=60).read()
    assert body == bytes(range(256)) * 4096, len(body)
seen = set()
for n in range(8):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
    data = b"%d" % n + b"x" * (3000 if n % 2 else 100)
    for _ in range(4):
        s.sendto(data, (V, 80))
        try: name, echo = s.recvfrom(65536)[0].split(b" ", 1)
        except TimeoutError: continue
        assert echo == data; seen.add(name); break
assert seen == {b"rs1", b"rs2"}, seen
P
}

configuration() {
  local card=$1 device=$2 method=$3 workers=$4 protocol server
  printf '[director]\nworkers = %s\n' "$workers"
  printf '[[interface]]\nname = "%s"\ndevice = "%s"\n' "$card" "$device"
  printf 'addresses = ["192.0.2.254/24", "10.0.1.254/24"]\n'
  for protocol in tcp udp; do
    printf '[[service]]\nprotocol = "%s"\naddress = "%s"\nport = 80\nscheduler = "rr"\n' "$protocol" "$vip"
    for server in 10.0.1.11 10.0.1.12; do
      printf '[[service.server]]\naddress = "%s"\nport = 80\nmethod = "%s"\n' "$server" "$method"
    done
  done
}

run() {
  local model=$1 card=$2 device=$3 method=$4 workers=$5 pid result=failed log=$work/log how
  prepare "$method"
  configuration "$card" "$device" "$method" "$workers" >"$work/director.toml"
  "$director" run --no-state --no-control --config "$work/director.toml" >"$log" 2>&1 &
  pid=$!
  for _ in $(seq 300); do
    grep -q "the director is at work" "$log" && break
    kill -0 $pid 2>/dev/null || break
    sleep 0.2
  done
  if ask >"$work/ask" 2>&1; then result=passed; else failed=1; fi
  how=$(sed -n 's/.*AF_XDP on \([0-9]* queues\), its program \(run by the [a-z]*\), \(.*\)$/\1, \2, \3/p' "$log" |
    head -n 1)
  kill -INT $pid 2>/dev/null
  wait $pid
  printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$model" "$(driver "$card")" "$device" "$workers" "$method" \
    "${how:-one ring}" "$result"
  [ "$result" = passed ] || { tail -n 20 "$log"; tail -n 5 "$work/ask"; }
}

driver() { basename "$(readlink -f "/sys/class/net/$1/device/driver")"; }

# The card with this MAC address.
card() { grep -il "$1" /sys/class/net/*/address | head -1 | cut -d/ -f5; }

modprobe -a virtio_net e1000e vmxnet3 veth bridge ipip 2>/dev/null
sleep 2
echo '| card | driver | device | workers | method | how | result |'
echo '|---|---|---|---|---|---|---|'
pair=0
for model in "${models[@]}"; do
  near=$(card "52:54:00:00:0$pair:02")
  far=$(card "52:54:00:00:0$pair:01")
  ip link set "$near" up
  world "$far"
  serve rs1
  serve rs2
  sleep 3
  for device in packet xdp; do
    for method in nat dr tun; do
      run "$model" "$near" "$device" "$method" 1
    done
  done
  run "$model" "$near" packet nat 2
  for method in nat dr tun; do
    run "$model" "$near" xdp "$method" 2
  done
  jobs -p | xargs -r kill 2>/dev/null
  sleep 1
  for name in client rs1 rs2 world; do ip netns del "$name"; done
  ip link set "$near" down
  pair=$((pair + 1))
done
rm -r "$work"
exit $failed
