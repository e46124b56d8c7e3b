// A static Go program that asks for the family IPVS and for its services in the two styles that Go libraries have: with
// blocking calls (as vishvananda/netlink and moby/ipvs), and with a descriptor in the runtime's poller (as
// mdlayher/netlink and cloudflare/ipvs). It prints the number of services that each finds.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"
)

type conn interface {
	send(message []byte) error
	receive() ([]byte, error)
	port() uint32
}

func open(flags int) int {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|flags, syscall.NETLINK_GENERIC)
	check(err)
	check(syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}))
	return fd
}

func own(fd int) uint32 {
	name, err := syscall.Getsockname(fd)
	check(err)
	return name.(*syscall.SockaddrNetlink).Pid
}

type blocking struct{ fd int }

func (c blocking) send(message []byte) error {
	return syscall.Sendto(c.fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK})
}

func (c blocking) receive() ([]byte, error) {
	room := make([]byte, 1<<16)
	count, from, err := syscall.Recvfrom(c.fd, room, 0)
	if err != nil {
		return nil, err
	}
	if sender, ok := from.(*syscall.SockaddrNetlink); !ok || sender.Pid != 0 {
		return nil, fmt.Errorf("a message from %v", from)
	}
	return room[:count], nil
}

func (c blocking) port() uint32 { return own(c.fd) }

type polled struct {
	file *os.File
	raw  syscall.RawConn
	id   uint32
}

func newPolled() polled {
	fd := open(syscall.SOCK_NONBLOCK)
	file := os.NewFile(uintptr(fd), "netlink")
	raw, err := file.SyscallConn()
	check(err)
	return polled{file, raw, own(fd)}
}

func (c polled) send(message []byte) (err error) {
	outer := c.raw.Write(func(fd uintptr) bool {
		err = syscall.Sendmsg(int(fd), message, nil, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}, 0)
		return err != syscall.EAGAIN
	})
	if outer != nil {
		return outer
	}
	return err
}

func (c polled) receive() (message []byte, err error) {
	room, count := make([]byte, 1<<16), 0
	outer := c.raw.Read(func(fd uintptr) bool {
		var from syscall.Sockaddr
		count, _, _, from, err = syscall.Recvmsg(int(fd), room, nil, 0)
		if sender, ok := from.(*syscall.SockaddrNetlink); err == nil && (!ok || sender.Pid != 0) {
			err = fmt.Errorf("a message from %v", from)
		}
		return err != syscall.EAGAIN
	})
	if outer != nil {
		return nil, outer
	}
	return room[:count], err
}

func (c polled) port() uint32 { return c.id }

func request(kind uint16, flags uint16, sequence uint32, body []byte) []byte {
	var b bytes.Buffer
	for _, part := range []any{uint32(16 + len(body)), kind, flags, sequence, uint32(0), body} {
		check(binary.Write(&b, binary.LittleEndian, part))
	}
	return b.Bytes()
}

// Asks, and hands out the messages of the answer with the body behind both headers.
func ask(c conn, message []byte, take func(kind uint16, body []byte)) {
	check(c.send(message))
	sequence := binary.LittleEndian.Uint32(message[8:])
	for {
		datagram, err := c.receive()
		check(err)
		for len(datagram) >= 16 {
			length := binary.LittleEndian.Uint32(datagram)
			kind := binary.LittleEndian.Uint16(datagram[4:])
			if binary.LittleEndian.Uint32(datagram[8:]) != sequence || binary.LittleEndian.Uint32(datagram[12:]) != c.port() {
				check(fmt.Errorf("a message for somebody else: %v", datagram[:16]))
			}
			if kind == 2 || kind == 3 {
				return
			}
			take(kind, datagram[20:length])
			datagram = datagram[min((int(length)+3)&^3, len(datagram)):]
		}
	}
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func services(c conn) (count int) {
	var family uint16
	name := append([]byte{3, 1, 0, 0, 9, 0, 2, 0}, "IPVS\x00\x00\x00\x00"...)
	ask(c, request(16, 5, 1, name), func(_ uint16, body []byte) {
		for len(body) >= 4 {
			length, kind := binary.LittleEndian.Uint16(body), binary.LittleEndian.Uint16(body[2:])
			if kind == 1 {
				family = binary.LittleEndian.Uint16(body[4:])
			}
			body = body[min((int(length)+3)&^3, len(body)):]
		}
	})
	ask(c, request(family, 0x301, 2, []byte{4, 1, 0, 0}), func(kind uint16, _ []byte) {
		if kind == family {
			count++
		}
	})
	return count
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	fmt.Println("blocking", services(blocking{open(0)}))
	fmt.Println("polled", services(newPolled()))
	// Many at once, which the runtime's threads and their signals mix.
	var group sync.WaitGroup
	found := make([]int, 16)
	for i := range found {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < 20; j++ {
				if i%2 == 0 {
					c := blocking{open(0)}
					found[i] += services(c)
					syscall.Close(c.fd)
				} else {
					c := newPolled()
					found[i] += services(c)
					c.file.Close()
				}
			}
		}(i)
	}
	group.Wait()
	fmt.Println("at once", found)
	text, err := os.ReadFile("/proc/net/ip_vs_stats")
	check(err)
	fmt.Println("file", bytes.Count(text, []byte("\n")))
}
