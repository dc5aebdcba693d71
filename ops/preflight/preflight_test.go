package preflight_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/ops/preflight"
)

func TestPort(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	me := fmt.Sprintf("(pid %d)", os.Getpid())
	for network, addr := range map[string]string{"tcp": tcp.Addr().String(), "udp": udp.LocalAddr().String()} {
		var taken *preflight.Taken
		if err := preflight.Port(network, addr); !errors.As(err, &taken) || !strings.Contains(taken.By, me) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s %s: %v, want it to name %s", network, addr, err, me)
		}
	}
	free := tcp.Addr().String()
	tcp.Close()
	if err := preflight.Port("tcp", free); err != nil {
		t.Errorf("a free port: %v", err)
	}
	if err := preflight.Port("tcp", "192.0.2.1:5432"); err == nil || !strings.Contains(err.Error(), "192.0.2.1 is not an address of this host") {
		t.Errorf("an address of somebody else: %v", err)
	}
}

func TestPortTakenByWildcard(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := fmt.Sprintf("127.0.0.77:%d", l.Addr().(*net.TCPAddr).Port)
	var taken *preflight.Taken
	if err := preflight.Port("tcp", addr); !errors.As(err, &taken) || !strings.Contains(taken.By, fmt.Sprint(os.Getpid())) {
		t.Errorf("%v, want it to find the listener on all addresses", err)
	}
}

func TestSpace(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "not", "yet")
	if err := preflight.Space(missing, 1); err != nil {
		t.Error(err)
	}
	if err := preflight.Space(missing, 1<<62); err == nil || !strings.Contains(err.Error(), "MB are needed") {
		t.Errorf("%v, want it to say what is needed", err)
	}
}

func TestPortsNameEachProcessOnce(t *testing.T) {
	var endpoints []preflight.Endpoint
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		endpoints = append(endpoints, preflight.Endpoint{Network: "tcp", Address: l.Addr().String()})
	}
	err := preflight.Ports(endpoints...)
	want := fmt.Sprintf("tcp port %s and 2 more are taken by ", endpoints[0].Address)
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("%v\nwant one line that begins with\n%s", err, want)
	}
}
