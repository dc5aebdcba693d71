package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// reachTime bounds one attempt to reach something. A firewall that drops is known by it.
const reachTime = 3 * time.Second

// Main answers one question.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	var r Request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	var a Answer
	var open []io.Closer
	if r.Look != nil {
		f := look(ctx, *r.Look)
		a.Facts = &f
	}
	if len(r.Listen) > 0 {
		var wait sync.WaitGroup
		a.Listen, open = listen(r.Listen, &wait)
		defer wait.Wait()
	}
	if len(r.Dial) > 0 {
		a.Dial = reach(ctx, r.Dial)
	}
	for _, url := range r.Get {
		a.Get = append(a.Get, get(ctx, url))
	}
	for _, l := range r.Logins {
		a.Logins = append(a.Logins, l.try(ctx))
	}
	if r.Load != nil {
		w := r.Load.work(ctx)
		a.Load = &w
	}
	if r.Server {
		var err error
		if a.Server, err = existing(ctx); err != nil {
			return err
		}
	}
	if r.Meet != nil {
		m := r.Meet.meet(ctx)
		a.Meet = &m
	}
	if r.Carry != nil {
		open = append(open, a.carry(ctx, *r.Carry)...)
	}
	if r.Lock != "" {
		open = append(open, a.lock(r.Lock, lockPath)...)
	}
	err := json.NewEncoder(out).Encode(a) // which ends the line
	if len(open) > 0 {
		awaitEnd(in)
	}
	for _, c := range open {
		err = errors.Join(err, c.Close())
	}
	return err
}

// silence is how long who holds something here may say nothing. They beat every few seconds, and give a host up that is silent for longer.
const silence = 15 * time.Second

// awaitEnd returns when the input has ended or its other end is gone. What it has started ends with the program.
func awaitEnd(in io.Reader) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for buf := make([]byte, 64); ; {
			n, err := in.Read(buf)
			if err != nil {
				return
			}
			if n > 0 {
				heard <- struct{}{}
			}
		}
	}()
	for {
		select {
		case _, more := <-heard:
			if !more {
				return
			}
		case <-time.After(silence):
			return
		}
	}
}

// String is the endpoint as a key of Answer's maps.
func (e Endpoint) String() string { return e.Network + " " + e.Address }

// listen opens what it can. Over UDP it answers every datagram, so that the sender learns of its arrival; that ends with the socket.
func listen(all []Endpoint, wait *sync.WaitGroup) (failed map[string]string, open []io.Closer) {
	failed = map[string]string{}
	for _, e := range all {
		if e.Network == "udp" {
			c, err := net.ListenPacket("udp", e.Address)
			if err != nil {
				failed[e.String()] = err.Error()
				continue
			}
			open = append(open, c)
			wait.Go(func() { echo(c) })
			continue
		}
		l, err := net.Listen("tcp", e.Address) // the kernel accepts by itself
		if err != nil {
			failed[e.String()] = err.Error()
			continue
		}
		open = append(open, l)
	}
	return failed, open
}

func echo(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from) // who gets no answer says so
	}
}

func reach(ctx context.Context, all []Endpoint) map[string]string {
	errs := make([]string, len(all))
	var wait sync.WaitGroup
	for i, e := range all {
		wait.Go(func() {
			if err := dial(ctx, e); err != nil {
				errs[i] = err.Error()
			}
		})
	}
	wait.Wait()
	out := map[string]string{}
	for i, e := range all {
		out[e.String()] = errs[i]
	}
	return out
}

func dial(ctx context.Context, e Endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, e.Network, e.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	if e.Network != "udp" {
		return nil
	}
	// Three times: one may be lost.
	for range 3 {
		if _, err = c.Write([]byte("standfast")); err != nil {
			return err
		}
		if err = c.SetReadDeadline(time.Now().Add(reachTime / 4)); err != nil {
			return err
		}
		if _, err = c.Read(make([]byte, 64)); err == nil {
			return nil
		}
	}
	return err
}

func get(ctx context.Context, url string) Response {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Response{Error: err.Error()}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Response{Error: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Response{Error: err.Error()}
	}
	return Response{Status: resp.StatusCode, Body: string(body)}
}

// loginTime bounds a session: a router holds a connection while there is no primary.
const loginTime = 15 * time.Second

func (l Login) try(ctx context.Context) Session {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	value, err := l.ask(ctx)
	s := Session{Value: value}
	if err != nil {
		s.Error, s.Code = err.Error(), code(err)
	}
	return s
}

func (l Login) ask(ctx context.Context) (string, error) {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return "", err
	}
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s sslmode=prefer", host, port))
	if err != nil {
		return "", err
	}
	cfg.User, cfg.Password, cfg.Database = l.User, l.Password, l.Database
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var value string
	err = conn.QueryRow(ctx, l.SQL).Scan(&value)
	return value, err
}
