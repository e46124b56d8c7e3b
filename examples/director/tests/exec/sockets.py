"""What a program sees of a generic netlink socket by all calls that there are, led to a director."""
import ctypes, os, select, signal, socket, struct, threading, time

ASK = bytes([3, 1, 0, 0, 9, 0, 2, 0]) + b'IPVS\0\0\0\0'
INFO = bytes([15, 1, 0, 0])


def request(kind, body, sequence=1, flags=1):
    return struct.pack('<IHHII', 16 + len(body), kind, flags, sequence, 0) + body


def make(kind=socket.SOCK_RAW):
    s = socket.socket(socket.AF_NETLINK, kind, 16)
    s.settimeout(5)
    return s


def check(what, is_so):
    if not is_so:
        raise SystemExit(f'{what} is not as with the kernel')


def head(answer):
    return struct.unpack_from('<IHHII', answer)


# Sending in every way; receiving with the sender's address and without it; the port id.
SEND = {
    'send': lambda s, m: s.send(m),
    'sendto': lambda s, m: s.sendto(m, (0, 0)),
    'write': lambda s, m: os.write(s.fileno(), m),
    'writev': lambda s, m: os.writev(s.fileno(), [m[:5], m[5:]]),
    'sendmsg': lambda s, m: s.sendmsg([m[:16], m[16:]]),
    'sendmsg with an address': lambda s, m: s.sendmsg([m], [], 0, (0, 0)),
}
RECEIVE = {
    'recv': lambda s: (s.recv(9000), (0, 0)),
    'read': lambda s: (os.read(s.fileno(), 9000), (0, 0)),
    'recvfrom': lambda s: s.recvfrom(9000),
    'recvmsg': lambda s: (lambda r: (r[0], r[3]))(s.recvmsg(9000)),
    'recvmsg in pieces': lambda s: (lambda r, a, b: (bytes(a) + bytes(b)[:r[0] - 10], r[3]))(
        *(lambda a, b: (s.recvmsg_into([a, b]), a, b))(bytearray(10), bytearray(9000))),
}
for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
    for sending, send in SEND.items():
        for receiving, receive in RECEIVE.items():
            what = f'{sending}, {receiving}'
            s = make(kind)
            check(what, send(s, request(16, ASK, 7)) == 16 + len(ASK))
            s.setblocking(True)
            answer, sender = receive(s)
            check(what + ': sender', sender == (0, 0))
            length, number, flags, sequence, port = head(answer)
            check(what + ': message', (length, number, flags, sequence) == (len(answer), 16, 0, 7))
            check(what + ': port id', port == s.getsockname()[0] != 0)
            s.close()

family = struct.unpack_from('<H', answer, answer.index(b'\6\0\1\0') + 4)[0]

# What only a netlink socket has.
s = make(socket.SOCK_DGRAM)
check('a fresh name', s.getsockname() == (0, 0))
s.bind((0, 0))
check('the first port id of a process', s.getsockname() == (os.getpid(), 0))
second = make()
second.bind((0, 0))
check('the second port id', second.getsockname()[0] not in (0, os.getpid()))
third = make()
try:
    third.bind((os.getpid(), 0))
    check('a port id that is taken', False)
except OSError as error:
    check('a port id that is taken', error.errno == 98)
third.bind((4711, 0))
check('a port id that was asked for', third.getsockname() == (4711, 0))
check('the peer', s.getpeername() == (0, 0))
option = lambda name: s.getsockopt(socket.SOL_SOCKET, name)
check('domain, protocol and type', (option(39), option(38), option(3)) == (16, 16, socket.SOCK_DGRAM))
check('SO_PEERCRED', struct.unpack('3i', s.getsockopt(socket.SOL_SOCKET, 17, 12)) == (0, -1, -1))
s.setsockopt(270, 11, 1)
check('NETLINK_EXT_ACK', s.getsockopt(270, 11) == 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.connect((0, 0))
try:
    s.connect((4711, 0))
    check('another program as a peer', False)
except OSError as error:
    check('another program as a peer', error.errno in (1, 111))
try:
    s.getsockopt(0, 1153)
    check('the old interface', False)
except OSError as error:
    check('the old interface', error.errno == 92)
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_STREAM, 16)
    check('a stream', False)
except OSError as error:
    check('a stream', error.errno == 94)

# Peeking, cutting, not waiting.
s.send(request(16, ASK, 8))
select.select([s], [], [], 5)
whole = s.recv(9000, socket.MSG_PEEK)
data, _, flags, _ = s.recvmsg(20, 0, socket.MSG_PEEK)
check('a cut message', data == whole[:20] and flags & socket.MSG_TRUNC)
check('a length that was asked for', s.recv_into(bytearray(9), 9, socket.MSG_TRUNC) == len(whole))
s.settimeout(None)
for flags in (socket.MSG_DONTWAIT, socket.MSG_DONTWAIT | socket.MSG_PEEK):
    try:
        s.recvmsg(9000, 0, flags)
        check('an empty queue', False)
    except BlockingIOError:
        pass
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 200_000))
try:
    s.recvfrom(9000)
    check('patience', False)
except BlockingIOError:
    pass

# The answer is there when the request has been sent: no waiting, by the socket's mode or the call's.
s.send(request(16, ASK, 18))
check('an answer at once', head(s.recvmsg(9000, 0, socket.MSG_DONTWAIT)[0])[3] == 18)
s.setblocking(False)
s.send(request(16, ASK, 19))
check('an answer at once', head(s.recvfrom(9000)[0])[3] == 19)

# Waiting in every way, begun before anything was asked.
for name, wait in (('epoll', lambda p: p.poll(5)), ('poll', lambda p: p.poll(5000))):
    s, waiter = make(), getattr(select, name)()
    waiter.register(s.fileno(), select.POLLIN)
    check(name + ' of nothing', waiter.poll(0) == [])
    s.send(request(16, ASK))
    check(name, [fd for fd, _ in wait(waiter)] == [s.fileno()])

# One socket asks for the family, others use it: a duplicate, a child's, a thread's, one that was handed over.
s = make()
s.send(request(family, INFO, 9))
check('another socket', head(s.recvmsg(9000)[0])[1:4] == (family, 0, 9))
copy = s.dup()
copy.send(request(family, INFO, 10))
check('a duplicate', head(s.recvmsg(9000)[0])[3] == 10)
child = os.fork()
if child == 0:
    s.send(request(family, INFO, 11))
    os._exit(0 if head(s.recvfrom(9000)[0])[3] == 11 else 1)
check('a child', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)
one, other = socket.socketpair()
socket.send_fds(one, [b'x'], [s.fileno()])
handed = socket.socket(fileno=socket.recv_fds(other, 1, 1)[1][0])
handed.settimeout(5)
handed.send(request(family, INFO, 12))
check('a socket that was handed over', head(handed.recvmsg(9000)[0])[3] == 12)
found = []
def in_thread():
    t = make()
    for sequence in range(20):
        t.send(request(family, INFO, sequence))
        found.append(head(t.recvmsg(9000)[0])[3] == sequence)
threads = [threading.Thread(target=in_thread) for _ in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
check('threads', found == [True] * 80)

# Two messages in a datagram; a request that nobody knows; a family of the kernel's beside it, on the same socket.
s.send(request(family, INFO, 13) + request(16, ASK, 14))
check('two messages', [head(s.recvmsg(9000)[0])[3] for _ in range(2)] == [13, 14])
s.send(request(family, bytes([99, 1, 0, 0]), 15))
check('an unknown command', struct.unpack_from('<i', s.recvmsg(9000)[0], 16)[0] == -95)
s.send(request(16, bytes([3, 1, 0, 0, 11, 0, 2, 0]) + b'nlctrl\0\0', 16))
answer, _, _, sender = s.recvmsg(9000)
check("the kernel's own family", head(answer)[1] == 16 and b'nlctrl' in answer and sender == (0, 0))
s.send(request(900, INFO, 17))
check('a family that is not there', struct.unpack_from('<i', s.recvmsg(9000)[0], 16)[0] == -2)

# A signal that is handled ends what waits.
class Alarm(Exception):
    pass
def ring(*_):
    raise Alarm
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.3)
s.settimeout(None)
try:
    s.recvmsg(9000)
    check('a signal', False)
except Alarm:
    pass

# A pointer that leads nowhere harms nobody.
libc = ctypes.CDLL(None, use_errno=True)
for call in (libc.recvmsg, lambda s, at, flags: libc.recvmmsg(s, at, 1, flags, None)):
    result = call(s.fileno(), ctypes.c_void_p(2 ** 64 - 8), 0)
    check('a pointer that leads nowhere', (result, ctypes.get_errno()) == (-1, 14))
s.send(request(16, ASK, 20))
check('an answer after that', head(s.recvmsg(9000)[0])[3] == 20)
print('all is as with the kernel')
