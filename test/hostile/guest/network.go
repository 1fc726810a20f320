//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// network tries to reach what is outside, what belongs to others, and to change the network it is in.
func network(addresses []string) []probe {
	probes := []probe{
		{"find the neighbour's listener on loopback", func() error { return dial("tcp4", canaryTCP) }},
		{"find the neighbour's abstract socket", func() error { return dial("unix", canarySocket) }},
		{"see sockets that are not its own in /proc/net/unix", func() error {
			b, err := os.ReadFile("/proc/net/unix")
			if err == nil && !strings.Contains(string(b), "@") {
				err = errors.New("none")
			}
			return err
		}},
		{"reach the node at ::1", func() error { return dial("tcp6", port(addresses, "::1")) }},
		{"reach the metadata service 169.254.169.254:80", func() error { return dial("tcp4", "169.254.169.254:80") }},
		{"send a datagram to 8.8.8.8:53", func() error { return dial("udp4", "8.8.8.8:53") }},
		{"send a broadcast", func() error {
			return sendTo(unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{255, 255, 255, 255}})
		}},
		{"take over the Runtime API's address", func() error { return listen([4]byte{127, 0, 0, 1}, 9001, 0) }},
		{"take it over with SO_REUSEPORT", func() error { return listen([4]byte{127, 0, 0, 1}, 9001, unix.SO_REUSEPORT) }},
		{"take it over at 0.0.0.0", func() error { return listen([4]byte{}, 9001, unix.SO_REUSEADDR) }},
		{"listen at port 80", func() error { return listen([4]byte{127, 0, 0, 1}, 80, 0) }},
		{"add an interface", func() error {
			return netlink(unix.RTM_NEWLINK, append(make([]byte, 16), attribute(unix.IFLA_LINKINFO, attribute(1, []byte("dummy")))...))
		}},
		{"add an address to lo", func() error {
			return netlink(unix.RTM_NEWADDR, append([]byte{unix.AF_INET, 8, 0, 0, 1, 0, 0, 0}, attribute(unix.IFA_LOCAL, []byte{10, 9, 8, 7})...))
		}},
		{"add a route", func() error {
			return netlink(unix.RTM_NEWROUTE, append([]byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, 0, unix.RTN_UNICAST, 0, 0, 0, 0},
				attribute(unix.RTA_OIF, []byte{1, 0, 0, 0})...))
		}},
		{"take lo down", func() error { return control(unix.SIOCSIFFLAGS, 0) }},
		{"change lo's size of packets", func() error { return control(unix.SIOCSIFMTU, 1) }},
		{"make a tunnel", func() error {
			f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
			if err == nil {
				_ = f.Close() // only opened
			}
			return err
		}},
	}
	for _, a := range addresses {
		probes = append(probes, probe{"reach the node at " + label(a), func() error { return dial("tcp", a) }})
	}
	for _, s := range []struct {
		name                   string
		family, kind, protocol int
	}{
		{"raw IPv4", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, {"raw IPv6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		{"ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, {"packet", unix.AF_PACKET, unix.SOCK_RAW, 0x0300},
		{"vsock (to the hypervisor)", unix.AF_VSOCK, unix.SOCK_STREAM, 0}, {"alg (the kernel's ciphers)", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"key", unix.AF_KEY, unix.SOCK_RAW, 2}, {"xdp", unix.AF_XDP, unix.SOCK_RAW, 0}, {"tipc", unix.AF_TIPC, unix.SOCK_RDM, 0},
		{"can", unix.AF_CAN, unix.SOCK_RAW, 1}, {"bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1}, {"rds", unix.AF_RDS, unix.SOCK_SEQPACKET, 0},
		{"smc", unix.AF_SMC, unix.SOCK_STREAM, 0}, {"sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, {"dccp", unix.AF_INET, 6, 33},
		{"netfilter netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, {"audit netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
		{"process events netlink", unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_CONNECTOR}, {"kernel events netlink", unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_KOBJECT_UEVENT},
		{"xfrm netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM}, {"generic netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC},
	} {
		probes = append(probes, probe{"make a socket: " + s.name, func() error {
			fd, err := unix.Socket(s.family, s.kind, s.protocol)
			if err == nil {
				_ = unix.Close(fd) // only made
			}
			return err
		}})
	}
	return probes
}

func label(address string) string {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsLoopback() {
		return "another of its addresses"
	}
	return "127.0.0.1"
}

// port gives the port of the node with another host before it.
func port(addresses []string, host string) string {
	for _, a := range addresses {
		if _, p, err := net.SplitHostPort(a); err == nil {
			return net.JoinHostPort(host, p)
		}
	}
	return net.JoinHostPort(host, "4566")
}

func dial(network, address string) error {
	s, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return err
	}
	defer s.Close()
	if network == "udp4" {
		_, err = s.Write([]byte("hostile"))
	}
	return err
}

func sendTo(family int, to unix.Sockaddr) error {
	s, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	return unix.Sendto(s, []byte("hostile"), 0, to)
}

func listen(at [4]byte, port, option int) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if option != 0 {
		if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(s, &unix.SockaddrInet4{Port: port, Addr: at}); err != nil {
		return err
	}
	return unix.Listen(s, 1)
}

// control makes an ioctl on lo.
func control(request uint, value uint32) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint32(value)
	return unix.IoctlIfreq(s, request, lo)
}

// attribute is one netlink attribute.
func attribute(kind uint16, value []byte) []byte {
	n := 4 + len(value)
	b := []byte{byte(n), byte(n >> 8), byte(kind), byte(kind >> 8)}
	b = append(b, value...)
	return append(b, make([]byte, (4-n%4)%4)...)
}

// netlink asks the kernel to make something and gives its answer.
func netlink(kind uint16, body []byte) error {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	message := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	header := (*unix.NlMsghdr)(unsafe.Pointer(&message[0]))
	header.Len, header.Type = uint32(unix.NLMSG_HDRLEN+len(body)), kind
	header.Flags, header.Seq = unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, 1
	if err := unix.Sendto(s, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 || (*unix.NlMsghdr)(unsafe.Pointer(&answer[0])).Type != unix.NLMSG_ERROR {
		return fmt.Errorf("an answer of %d bytes", n)
	}
	if code := *(*int32)(unsafe.Pointer(&answer[unix.NLMSG_HDRLEN])); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}
