package playground

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// echo answers each line with its name before it, on 127.0.0.x and the given port.
func echo(t *testing.T, address, name string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					if _, err := io.WriteString(c, name+" "+in.Text()+"\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func ask(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func open(t *testing.T, port int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.50.10", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFloatingAddressFollowsAndResets(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) }) // the first cleanup is the last to run
	port := freePort(t)
	echo(t, "127.0.50.11", "one", port)
	echo(t, "127.0.50.12", "two", port)
	f, err := newFloating("127.0.50.10", []int{port}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()

	waiting := open(t, port) // before anybody holds the address
	answer := make(chan string, 1)
	go func() {
		line, err := ask(waiting)
		answer <- line + errText(err)
	}()
	f.move("127.0.50.11")
	if got := <-answer; got != "one hello" {
		t.Fatalf("a connection that waited got %q", got)
	}

	f.move("") // while nobody is known, what is there stays
	if got, err := ask(waiting); got != "one hello" {
		t.Fatalf("session while nobody holds the address: %q %v", got, err)
	}
	f.move("127.0.50.12")
	if got, err := ask(waiting); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("the old session was not reset: %q %v", got, err)
	}
	if got, err := ask(open(t, port)); got != "two hello" {
		t.Fatalf("a new connection: %q %v", got, err)
	}
}

func TestHolderThatRefusesIsWaitedOut(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) }) // the first cleanup is the last to run
	port := freePort(t)
	echo(t, "127.0.50.12", "two", port)
	f, err := newFloating("127.0.50.10", []int{port}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	f.move("127.0.50.11") // nothing listens there
	c := open(t, port)
	answer := make(chan string, 1)
	go func() {
		line, err := ask(c)
		answer <- line + errText(err)
	}()
	f.move("127.0.50.12")
	if got := <-answer; got != "two hello" {
		t.Fatalf("got %q", got)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
